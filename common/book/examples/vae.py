# Three hundred updates on scikit-learn's 8 x 8 digits. Minibatches, noise and initial values are NumPy's.
data = datasets.load("digits")
training_set, held_out = data.split()
model = VAE(64, latent_dim=2, hidden_dim=100, dtype="float64")
shapes = {name: array.shape for name, array in layouts.export_parameters(model).items()}
layouts.import_parameters(model, draws.initial_values(0, shapes))
adam = optimizer.Adam(layouts.named_parameters(model), learning_rate=3e-3)
for step in range(300):
    rows = draws.minibatch(0, step, len(training_set.x), 128)
    noise = tensor(draws.normals(0, "noise", (len(rows), 2), step))
    bound, gradients = loss_and_gradients(model, tensor(training_set.x[rows]), noise)
    adam.update(gradients)
    if step % 100 == 0 or step == 299:
        elbo, reconstruction, kl = map(float, bound)
        print(f"update {step + 1:3}: ELBO {elbo:9.4f} = reconstruction {reconstruction:9.4f} - KL {kl:.4f}")

# %% What the two-dimensional code keeps of a digit that was held out, and what the prior thinks a digit is.
mean, log_var = model.encoder(tensor(held_out.x))
originals, shown = held_out.x[:10], np.asarray(detached(model.expected_data(model.decoder(mean))))[:10]
figures.reconstructions(originals, shown, data.image_shape)

# %%
codes = tensor(draws.normals(0, "prior", (64, 2)))
figures.samples(np.asarray(detached(model.expected_data(model.decoder(codes)))), data.image_shape)

# %%
figures.latent_space(np.asarray(detached(mean)), held_out.labels)
