r"""Convolutional encoder and decoder: networks that know that pixels have neighbours.

A dense layer has a weight for every pair of a pixel and a unit, and would learn just as well if the pixels
were shuffled. A convolution looks through a window of 3 by 3 pixels, with the same few weights wherever the
window stands: a stroke that has moved by two pixels has the same effect, moved by one. With a stride of 2 the
next layer is half as high and half as wide, and two such layers see 7 by 7 pixels. The decoder goes the way
back by the *transposed* convolution, the linear map whose matrix is the transpose,
$\langle \mathrm{conv}(x), y \rangle = \langle x, \mathrm{conv}^\top(y) \rangle$: it is what backpropagation
through a convolution computes.

Images stay flat, (N, D) with D = H W, at the networks' borders. With C channels, codes of L dimensions and M
hidden units, and with sizes halved upwards, $7 \to 4 \to 2$:

    encoder          28 x 28, C = 32     8 x 8, C = 32     decoder          28 x 28, C = 32     8 x 8, C = 32
    x                1 x 28 x 28         1 x 8 x 8         z                L                   L
    conv1            32 x 14 x 14        32 x 4 x 4        hidden           M                   M
    conv2            64 x 7 x 7          64 x 2 x 2        features         64 x 7 x 7          64 x 2 x 2
    hidden           M                   M                 conv_transpose1  32 x 14 x 14        32 x 4 x 4
    mean, log_var    L, L                L, L              conv_transpose2  1 x 28 x 28         1 x 8 x 8

The activation follows every layer but the last of each network. Tensors are laid out as each framework likes
them: PyTorch has channels, height, width (NCHW), TensorFlow height, width, channels (NHWC). Activations are
never permuted; `layouts.py` says what becomes of the weights.

Source: V. Dumoulin, F. Visin, "A guide to convolution arithmetic for deep learning", 2016, sections 2 and 4.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from common.networks.input import halved
from pytorch_impl.networks import ACTIVATIONS, dense


class Convolution(nn.Conv2d):
    r"""A convolution that halves an image: windows of 3 by 3, stride 2, zeros around the image ("SAME").

    $$y_o(i, j) = b_o + \sum_c \sum_{u=0}^2 \sum_{v=0}^2 W_{ocuv} \, x_c(2i + u - p_H, \, 2j + v - p_W)$$

    The zeros are as few as will do, and uneven where they must be: $p_n = n \bmod 2$ before the first of $n$
    pixels, and one after the last. Symmetric padding would shift an image of even size by a pixel.
    """

    def __init__(self, in_channels: int, out_channels: int, dtype: str) -> None:
        super().__init__(in_channels, out_channels, kernel_size=3, stride=2, dtype=getattr(torch, dtype))

    def forward(self, image: Tensor) -> Tensor:
        """An image of in_channels and any size -> out_channels of half the size, rounded up."""
        height, width = image.shape[2:]
        padded = functional.pad(image, (width % 2, 1, height % 2, 1))  # (N, C, H + 1 or 2, W + 1 or 2)
        return super().forward(padded)  # (N, O, ⌈H/2⌉, ⌈W/2⌉)


class TransposedConvolution(nn.ConvTranspose2d):
    r"""The transpose of `Convolution`, from half the size to `image_shape`: every pixel is painted as a window.

    $$x_o(2i + u - p_H, \, 2j + v - p_W) \mathrel{+}= W_{couv} \, y_c(i, j), \qquad
      \mathrm{then} \quad x_o \mathrel{+}= b_o$$

    What falls outside the image is cut off, as the zeros around it were put on.
    """

    def __init__(self, in_channels: int, out_channels: int, image_shape: tuple[int, int], dtype: str) -> None:
        super().__init__(in_channels, out_channels, kernel_size=3, stride=2, dtype=getattr(torch, dtype))
        self.image_shape = image_shape

    def forward(self, features: Tensor) -> Tensor:
        """in_channels of half the size of `image_shape`, rounded up -> out_channels of `image_shape`."""
        height, width = self.image_shape
        whole = super().forward(features)  # (N, O, 2 ⌈H/2⌉ + 1, 2 ⌈W/2⌉ + 1)
        return whole[:, :, height % 2 : height % 2 + height, width % 2 : width % 2 + width]  # (N, O, H, W)


class ConvEncoder(nn.Module):
    r"""Mean and log variance of $q(z \mid x)$ from two convolutions and one dense hidden layer."""

    def __init__(
        self, image_shape: tuple[int, int], channels: int, hidden_dim: int, latent_dim: int, activation: str, dtype: str
    ) -> None:
        super().__init__()
        height, width = halved(halved(image_shape))
        self.conv1 = Convolution(1, channels, dtype)
        self.conv2 = Convolution(channels, 2 * channels, dtype)
        self.hidden = dense(2 * channels * height * width, hidden_dim, dtype)
        self.mean = dense(hidden_dim, latent_dim, dtype)
        self.log_var = dense(hidden_dim, latent_dim, dtype)
        self.image_shape = image_shape
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (N, D) -> mean (N, L), log_var (N, L)."""
        image = x.reshape(-1, 1, *self.image_shape)  # (N, 1, H, W)
        features = self.activation(self.conv1(image))  # (N, C, ⌈H/2⌉, ⌈W/2⌉)
        features = self.activation(self.conv2(features))  # (N, 2C, ⌈H/4⌉, ⌈W/4⌉)
        hidden = self.activation(self.hidden(features.flatten(1)))  # (N, M)
        return self.mean(hidden), self.log_var(hidden)  # (N, L), (N, L)


class ConvDecoder(nn.Module):
    r"""Logits or mean of $p(x \mid z)$ from two dense layers and two transposed convolutions."""

    def __init__(
        self, latent_dim: int, hidden_dim: int, channels: int, image_shape: tuple[int, int], activation: str, dtype: str
    ) -> None:
        super().__init__()
        half = halved(image_shape)
        self.features_shape = (2 * channels, *halved(half))
        self.hidden = dense(latent_dim, hidden_dim, dtype)
        self.features = dense(hidden_dim, 2 * channels * self.features_shape[1] * self.features_shape[2], dtype)
        self.conv_transpose1 = TransposedConvolution(2 * channels, channels, half, dtype)
        self.conv_transpose2 = TransposedConvolution(channels, 1, image_shape, dtype)
        self.activation = ACTIVATIONS[activation]

    def forward(self, z: Tensor) -> Tensor:
        """z (N, L) -> output (N, D)."""
        hidden = self.activation(self.hidden(z))  # (N, M)
        features = self.activation(self.features(hidden))  # (N, 2C ⌈H/4⌉ ⌈W/4⌉)
        features = features.unflatten(1, self.features_shape)  # (N, 2C, ⌈H/4⌉, ⌈W/4⌉)
        features = self.activation(self.conv_transpose1(features))  # (N, C, ⌈H/2⌉, ⌈W/2⌉)
        return self.conv_transpose2(features).flatten(1)  # (N, D)
