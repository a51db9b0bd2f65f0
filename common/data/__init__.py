"""Data sets, files of tables and images, and tables that are passed over piece by piece."""
