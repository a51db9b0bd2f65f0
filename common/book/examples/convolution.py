# A small convolutional autoencoder, its parameters set from one draw of NumPy's, and a digit on its way through.
data = datasets.load("digits")
model = vae.VAE(64, latent_dim=2, hidden_dim=32, dtype="float64", model="conv", image_shape=(8, 8), channels=4)
shapes = {name: array.shape for name, array in layouts.export_parameters(model).items()}
layouts.import_parameters(model, draws.initial_values(0, shapes))
for name in (name for name in shapes if "conv" in name):
    print(f"{name:32} {shapes[name]}")
mean, log_var = model.encoder(tensor(data.x[:1]))
print(
    "code", np.asarray(detached(mean)).round(6), "from", np.prod(shapes["encoder.conv1.weight"]), "weights in a window"
)

# %% The same digit and the same digit moved by two pixels, as the untrained decoder gives them back.
moved = np.roll(data.x[:1].reshape(8, 8), 2, axis=1).reshape(1, 64)
both = np.concatenate([data.x[:1], moved])
decoded = np.asarray(detached(model.expected_data(model.decoder(model.encoder(tensor(both))[0]))))
figures.reconstructions(both, decoded, data.image_shape)
