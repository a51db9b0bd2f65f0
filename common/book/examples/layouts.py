# A dense layer's weights go in as (out, in), and come out so. The last line shows how this framework keeps them.
model = vae.VAE(6, latent_dim=2, hidden_dim=3, dtype="float64")
name, weight = "encoder.hidden.weight", draws.normals(0, "sample", (3, 6))
inside = native(name, weight, named_parameters(model)[name])
print("canonical", canonical(name, inside).shape, "unchanged:", np.array_equal(canonical(name, inside), weight))
tuple(inside.shape)

# %% A convolution's weights have four axes. The layer that meets its map of features has one axis for three.
model = vae.VAE(60, hidden_dim=20, model="conv", image_shape=(6, 10), channels=4)
exported = export_parameters(model)
for name in (name for name in exported if name.endswith("weight")):
    print(f"{name:32} {exported[name].shape}")
{name: tuple(parameter.shape) for name, parameter in named_parameters(model).items()}

# %% Parameters that do not fit are refused, and none is set.
try:
    import_parameters(model, exported | {"encoder.conv1.weight": np.zeros((3, 3, 1, 4))})
except ValueError as error:
    print(error)
