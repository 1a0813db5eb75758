"""What digital processing does: contrast, elastic distortion, coarse pixels, JPEG."""

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..draws import Draws
from .filters import centred, gaussian, sampled
from .table import at, corruptions


@corruptions("contrast")
def contrast(x: Tensor, severity: int, draws: Draws) -> Tensor:
    """c (x - mean) + mean, the mean over each channel."""
    del draws
    mean = x.mean((2, 3), keepdim=True)
    return at(severity, (0.75, 0.5, 0.4, 0.3, 0.15)) * (x - mean) + mean


@corruptions("elastic transform")
def elastic_transform(x: Tensor, severity: int, draws: Draws) -> Tensor:
    """A random affine map, then every pixel is moved by a smooth random field.

    Three points a third of the image from its middle go anywhere within c of themselves; the field
    is a times uniform noise blurred by a Gaussian of sigma s. All three are shares of the side. As
    a grows c falls: the severities are not in order of damage.
    """
    rows = (
        (0.0, 0.0, 0.08),
        (0.05, 0.2, 0.07),
        (0.08, 0.06, 0.06),
        (0.1, 0.04, 0.05),
        (0.1, 0.03, 0.03),
    )
    amount, sigma, affine = (part * min(x.shape[2:]) for part in at(severity, rows))
    down, right = _affine(x, affine, draws.fork("affine"))
    x = sampled(x, down, right)
    down, right = centred(x)
    fields = 2 * draws.fork("field").uniform(2, *x.shape[2:]).to(x) - 1
    fields = amount * gaussian(fields, sigma, max(1, round(3 * sigma)))
    return sampled(x, down + fields[:, 0], right + fields[:, 1])


def _affine(x: Tensor, by: float, draws: Draws) -> tuple[Tensor, Tensor]:
    """Where every pixel comes from, (sample, rows, columns), in pixels from the middle."""
    far = max(1, min(x.shape[2:]) // 3)
    ends = torch.tensor([[far, far, 1.0], [far, -far, 1.0], [-far, -far, 1.0]], dtype=torch.float64)
    moved = ends[:, :2] + by * (2 * draws.uniform(3, 2).cpu().double() - 1)
    to = torch.cat([moved, torch.ones(len(x), 3, 1, dtype=torch.float64)], dim=2)
    back = torch.linalg.solve(to, ends[:, :2].expand(len(x), 3, 2)).to(x)  # moved -> ends
    down, right = centred(x)
    places = torch.stack([down, right, torch.ones_like(down)], dim=-1)
    found = torch.einsum("ijk,nkl->nijl", places, back)
    return found[..., 0], found[..., 1]


@corruptions("pixelate")
def pixelate(x: Tensor, severity: int, draws: Draws) -> Tensor:
    """Fewer pixels, each the mean of its area, shown as blocks."""
    del draws
    share = at(severity, (0.95, 0.9, 0.85, 0.75, 0.65))
    rows, columns = (_coarse(size, int(size * share)).to(x) for size in x.shape[2:])
    return rows @ x @ columns.T


def _coarse(size: int, fewer: int) -> Tensor:
    """(size, size): every pixel is the mean of the area of the coarse pixel that covers its middle."""
    ends = torch.arange(fewer + 1, dtype=torch.float64) * size / max(1, fewer)
    pixel = torch.arange(size, dtype=torch.float64)
    left = torch.maximum(ends[:-1, None], pixel)
    overlap = (torch.minimum(ends[1:, None], pixel + 1) - left).clamp_min(0)
    means = overlap / overlap.sum(1, keepdim=True)
    return means[((pixel + 0.5) * fewer / size).long()]


@corruptions("jpeg compression")
def jpeg_compression(x: Tensor, severity: int, draws: Draws) -> Tensor:
    """Stored as JPEG of this quality, and read again."""
    del draws
    quality = at(severity, (80, 65, 58, 50, 40))
    found = [_through_jpeg(image, quality) for image in (x * 255).round().byte().cpu()]
    return torch.stack(found).to(x) / 255 if found else x


def _through_jpeg(image: Tensor, quality: int) -> Tensor:
    """(C, H, W) bytes."""
    pixels = image.permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if len(image) == 1 else pixels).save(
        file, "JPEG", quality=quality
    )
    with Image.open(file) as opened:
        read = np.array(opened)
    return torch.from_numpy(read.reshape(pixels.shape)).permute(2, 0, 1)
