"""What a check has found, and how it is said."""

from dataclasses import dataclass, field


@dataclass
class Finding:
    """One difference: where it is first seen on either side, how large it is, and its cause if that was found."""

    what: str  # "result", "gradient", "parameter", "output", "weights", "training"
    original: str  # the operation or parameter, with its module
    port: str  # the same of the port
    size: str = ""
    cause: str = ""
    row: str = ""  # of the catalogue of divergences
    remedy: str = ""
    also: str = ""  # where else the same cause was found

    def lines(self) -> list[str]:
        """The finding, as the report says it."""
        said = [f"{self.what}: {self.original}", f"  in the port: {self.port}"]
        said += [f"  {part}" for part in (self.size, self.also) if part]
        row = f" (row {self.row})" if self.row else ""
        said += [f"  cause: {self.cause}{row}"] if self.cause else ["  cause: none of the known ones explains it"]
        return said + ([f"  remedy: {self.remedy}"] if self.remedy else [])


@dataclass
class Report:
    """The result of `Port.check`: print it. ``agrees`` is whether the port is the same model."""

    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # true of a correct port too
    noted: list[str] = field(default_factory=list)  # the catalogue's rows of the notes
    weights: str = ""
    agreement: str = ""
    training: str = ""
    uncompared: list[str] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)  # what the data did not exercise

    @property
    def agrees(self) -> bool:
        """Whether nothing differs."""
        return not self.findings

    @property
    def first(self) -> Finding | None:
        """The first difference."""
        return self.findings[0] if self.findings else None

    @property
    def rows(self) -> list[str]:
        """The catalogue's rows that were named as causes."""
        return [finding.row for finding in self.findings if finding.row]

    def note(self, text: str, row: str) -> None:
        """Add a note, with the catalogue's row."""
        self.notes.append(f"{text} (row {row})")
        self.noted += row.split(", ")

    def join(self) -> None:
        """Make one finding of those with one cause; it says where else the cause was found."""
        groups: dict[tuple, list[Finding]] = {}
        for number, finding in enumerate(self.findings):
            same = (finding.what, finding.cause, finding.remedy) if finding.cause else (number,)
            groups.setdefault(same, []).append(finding)
        for first, *others in groups.values():
            if more := list(dict.fromkeys(f.original for f in others if f.original != first.original)):
                first.also = f"and in {len(more)} more: {', '.join(more if len(more) < 6 else [*more[:4], '...'])}"
        self.findings = [group[0] for group in groups.values()]

    def __str__(self) -> str:
        agrees = "the port agrees with the original" + ", as far as it was compared" * bool(self.uncompared)
        said = [agrees if self.agrees else "the port is not the same model"]
        said += [f"weights: {self.weights}", f"operations: {self.agreement}"]
        for finding in self.findings:
            said += finding.lines()
        said += [f"training: {self.training}"] if self.training else []
        said += [f"note: {note}" for note in self.notes]
        said += [f"not compared: {what}" for what in dict.fromkeys(self.uncompared)]
        said += [f"not exercised: {'; '.join(self.unseen)}"] if self.unseen else []
        return "\n".join(said)
