# A plain autoencoder on scikit-learn's 8 x 8 digits, 300 updates: squared error, read as a likelihood.
data = datasets.load("digits")
training_set, held_out = data.split()
model = Autoencoder(64, latent_dim=2, hidden_dim=100, dtype="float64")
shapes = {name: array.shape for name, array in layouts.export_parameters(model).items()}
layouts.import_parameters(model, draws.initial_values(0, shapes))
adam = optimizer.Adam(layouts.named_parameters(model), learning_rate=3e-3)
for step in range(300):
    rows = draws.minibatch(0, step, len(training_set.x), 128)
    fit, gradients = loss_and_gradients(model, tensor(training_set.x[rows]))
    adam.update(gradients)
    if step % 100 == 0 or step == 299:
        log_likelihood, squared_error = map(float, fit)
        print(f"update {step + 1:3}: log likelihood {log_likelihood:9.4f}, squared error {squared_error:.5f} a pixel")

# %% Held-out digits, and what two numbers keep of each.
shown = np.asarray(detached(model(tensor(held_out.x[:10]))))
figures.reconstructions(held_out.x[:10], shown, data.image_shape)
