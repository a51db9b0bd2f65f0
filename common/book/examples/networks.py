# The networks of a small autoencoder, their parameters set from one draw of NumPy's.
model = vae.VAE(64, latent_dim=2, hidden_dim=32, dtype="float64")
shapes = {name: array.shape for name, array in layouts.export_parameters(model).items()}
layouts.import_parameters(model, draws.initial_values(0, shapes))
for name, shape in shapes.items():
    print(f"{name:24} {shape}")

# %% A digit to its code, and back to the mean of a picture: nothing has been learned yet.
digit = tensor(datasets.load("digits").x[:1])
mean, log_var = model.encoder(digit)
picture = model.expected_data(model.decoder(mean))
print("code", np.asarray(detached(mean)).round(6), "mean of the picture", f"{np.asarray(detached(picture)).mean():.6f}")
