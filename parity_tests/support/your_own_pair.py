"""A model of your own in both frameworks, held together: python -m parity_tests.support.your_own_pair"""

import keras
import numpy as np
import tensorflow as tf
import torch
from sklearn.datasets import load_iris

from common.parity import check_training, check_values

x, labels = load_iris(return_X_y=True)
weight, bias = np.linspace(-1, 1, 12).reshape(3, 4), np.zeros(3)
model, port = torch.nn.Linear(4, 3, dtype=torch.float64), keras.layers.Dense(3, dtype="float64")
model.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
port.build((None, 4))
port.set_weights([weight.T, bias])  # a kernel is (in, out)
RATE = 1 / 128  # Keras keeps it in single precision: with 0.01, check_training finds the weights apart at step 1
sgd, port_sgd = torch.optim.SGD(model.parameters(), lr=RATE), keras.optimizers.SGD(RATE)


def update(step: int) -> dict[str, np.ndarray]:
    sgd.zero_grad()
    loss = torch.nn.functional.cross_entropy(model(torch.tensor(x)), torch.tensor(labels))
    loss.backward()
    sgd.step()
    return {"loss": loss.item(), "gradient": model.weight.grad.numpy(), "weight": model.weight.detach().numpy()}


def port_update(step: int) -> dict[str, np.ndarray]:
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, port(x)))
    gradients = tape.gradient(loss, port.trainable_weights)
    port_sgd.apply_gradients(zip(gradients, port.trainable_weights, strict=True))
    return {"loss": loss, "gradient": tf.transpose(gradients[0]), "weight": tf.transpose(port.kernel)}


check_values(model(torch.tensor(x)).detach(), port(x), condition=4)
print(check_training(update, port_update, steps=100, condition=10)[-1])
