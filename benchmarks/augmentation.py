"""Times the augmentation against a straightforward dense implementation; writes benchmarks/results/augmentation.json.

    python benchmarks/augmentation.py [--quick] [--threads 2] [--device cpu]

The baseline is written here, as one would at first: float maps at full resolution, ``grid_sample``, a dense ball
convolution for the dilation and a component labelling per sample. ``--quick`` uses small chunks and one repeat.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import cc3d
import numpy as np
import torch
import torch.nn.functional as F

from synapseclr.augmentation import AugmentationConfig, Augmenter
from synapseclr.augmentation.active_zone import neurite_sides
from synapseclr.augmentation.corrected import prepare
from synapseclr.augmentation.dilation import dilate_ball
from synapseclr.augmentation.geometry import corrected_grid, published_scale, published_theta
from synapseclr.augmentation.intensity import add_pixel_noise, blur_gaussian, map_tone, noise_fields
from synapseclr.augmentation.published import decode_published, resample_published
from synapseclr.augmentation.resampling import make_stencil, resample

RESULT = Path(__file__).parent / "results" / "augmentation.json"
RADIUS = 9


def synthetic_chunks(batch: int, shape: tuple[int, int, int]) -> torch.Tensor:
    """Two curved neurites that meet at a patch of cleft, with textured intensities."""
    x, y, z = (torch.linspace(-1, 1, n).reshape([-1 if i == a else 1 for i in range(3)]) for a, n in enumerate(shape))
    height = x - 0.1 * torch.cos(3 * y) - 0.05 * z
    tube = (y**2 + z**2) < 0.3
    mask = torch.zeros(shape, dtype=torch.uint8)
    mask[tube & (height < 0) & (height > -0.8)] = 1
    mask[tube & (height >= 0) & (height < 0.8)] = 3
    mask[(height.abs() < 0.02) & ((y**2 + z**2) < 0.1)] = 2
    chunk = torch.randint(1, 256, (batch, 2, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    chunk[:, 1] = mask
    return chunk


def dense_dilation(mask_bxyz: torch.Tensor, radius: int) -> torch.Tensor:
    """Ball dilation by a dense convolution."""
    line = torch.arange(-radius, radius + 1, device=mask_bxyz.device) ** 2
    ball = (line[:, None, None] + line[None, :, None] + line <= radius**2).float()
    return F.conv3d(mask_bxyz[:, None].float(), ball[None, None], padding=radius)[:, 0] > 0.5


def looped_components(mask_bcxyz: torch.Tensor) -> torch.Tensor:
    """Pieces that touch the cleft, sample by sample on the CPU."""
    found = []
    for pre, cleft, post in mask_bcxyz.cpu().numpy():
        active = np.zeros_like(cleft)
        for side in (pre | cleft, post | cleft):
            labels = cc3d.connected_components(side, connectivity=26)
            for label in np.unique(labels[cleft]):
                active |= labels == label
        found.append(torch.from_numpy(active))
    return torch.stack(found).to(mask_bcxyz.device)


def dense_decode(chunk: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Float intensities and boolean masks at full resolution."""
    return chunk[:, :1].float() / 255.0, torch.stack([chunk[:, 1] == code for code in (1, 2, 3)], dim=1)


def dense_tone(x: torch.Tensor) -> torch.Tensor:
    """Per-section and global tone maps."""
    for shape in ((len(x), 1, 1, 1, x.shape[-1]), (len(x), 1, 1, 1, 1)):
        gamma, slope = 0.9 + 0.2 * torch.rand(shape, device=x.device), 0.9 + 0.2 * torch.rand(shape, device=x.device)
        x = (0.01 + slope * x**gamma).clamp(0, 1)
    return x


def dense_noise(x: torch.Tensor) -> torch.Tensor:
    """Lognormal and Gaussian noise."""
    factor = torch.exp(0.03 * torch.randn_like(x))
    return (x * factor / factor.mean(dim=(1, 2, 3, 4), keepdim=True) + 0.03 * torch.randn_like(x)).clamp(0, 1)


def dense_resample(x: torch.Tensor, mask: torch.Tensor, theta: torch.Tensor, size: int) -> tuple[torch.Tensor, ...]:
    """affine_grid and grid_sample."""
    grid = F.affine_grid(theta.expand(len(x), 3, 4), [len(x), 1, size, size, size], align_corners=True)
    sampled = [F.grid_sample(volume, grid, align_corners=True) for volume in (x, mask.float())]
    return sampled[0], sampled[1] > 0.5


def dense_blur(x: torch.Tensor) -> torch.Tensor:
    """A 3 x 3 x 3 convolution for each of three kernels, one of which is taken."""
    kernel = torch.rand(3, 1, 3, 3, 3, device=x.device)
    return F.conv3d(x, kernel, padding=1)[:, :1]


def dense_view(chunk: torch.Tensor, theta: torch.Tensor, size: int, radius: int, random: bool) -> torch.Tensor:
    """A whole view the straightforward way."""
    x, mask = dense_decode(chunk)
    if random:
        x = dense_noise(dense_tone(x))
    x, mask = dense_resample(x, mask, theta, size)
    if random:
        x = dense_blur(x)
        keep = torch.ones_like(x, dtype=torch.bool)
        keep[..., : size // 4] = False
        x, mask = (x * keep).flip(2), (mask & keep).flip(2)
    zone = dense_dilation(looped_components(mask), radius)[:, None]
    return (x * zone - 0.44) / 0.28


class Timer:
    """Medians of repeated calls, in milliseconds."""

    def __init__(self, device: torch.device, repeats: int) -> None:
        self.device, self.repeats = device, repeats

    def __call__(self, call: Callable[[], object], repeats: int | None = None, warm: bool = True) -> float:
        """Time a call, once before to warm up unless told not to."""
        if warm:
            call()
        return statistics.median(self._once(call) for _ in range(repeats or self.repeats))

    def _once(self, call: Callable[[], object]) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return 1000 * (time.perf_counter() - start)


def operation_cases(chunk: torch.Tensor, config: AugmentationConfig, timer: Timer) -> dict[str, tuple[float, float]]:
    """Milliseconds (ours, baseline) of each family of operations, per batch."""
    augmenter = Augmenter(config)
    draws = augmenter.draw(chunk, torch.Generator().manual_seed(0))
    tones, noise = (draws.sectional, draws.global_tone), draws.noise
    if tones[0] is None or tones[1] is None or noise is None:
        raise ValueError("the benchmark times tone maps and noise: the configuration must enable them")
    prepared, size = prepare(chunk, config), config.final_img_size
    x, mask = dense_decode(chunk)
    shape = (int(chunk.shape[2]), int(chunk.shape[3]), int(chunk.shape[4]))
    scale = published_scale(shape, config.final_crop_size, config.axial_to_sagittal_spacing)
    theta = published_theta(draws.rotation_bij, draws.displacement_bi, scale).to(chunk.device)
    image, cut = dense_resample(x, mask, theta, size)
    sigma = torch.tensor([0.5])

    def our_tone() -> torch.Tensor:
        return map_tone(map_tone(prepared.intensity_bcxyz, tones[0]), tones[1])

    def our_noise() -> torch.Tensor:
        fields = noise_fields(prepared.intensity_bcxyz, noise.seed)
        scales = noise.additive_scale_b, noise.multiplicative_scale_b
        return add_pixel_noise(prepared.intensity_bcxyz, *scales, *fields)

    def our_resampling() -> None:
        grid = corrected_grid(
            draws.rotation_bij,
            draws.displacement_bi,
            shape,
            config.final_crop_size,
            size,
            config.axial_to_sagittal_spacing,
            prepared.factors,
            chunk.device,
        )
        stencil = make_stencil(grid, prepared.mask_bcxyz.shape[2:])
        resample(prepared.mask_bcxyz[:, :2], stencil)
        resample(prepared.mask_bcxyz, stencil, threshold=0.5)

    def our_components() -> torch.Tensor:
        pre, post = neurite_sides(cut, 26)
        return pre | post

    zone = our_components()
    parity = decode_published(chunk, 255.0)
    return {
        "decode and anti-alias": (timer(lambda: prepare(chunk, config)), timer(lambda: dense_decode(chunk))),
        "tone maps": (timer(our_tone), timer(lambda: dense_tone(x))),
        "pixel noise": (timer(our_noise), timer(lambda: dense_noise(x))),
        "resampling": (timer(our_resampling), timer(lambda: dense_resample(x, mask, theta, size))),
        "resampling, published fidelity": (
            timer(lambda: resample_published(*parity, theta.cpu(), size)),
            timer(lambda: dense_resample(x, mask, theta, size)),
        ),
        "blur": (timer(lambda: blur_gaussian(image, sigma)), timer(lambda: dense_blur(image))),
        "components": (timer(our_components), timer(lambda: looped_components(cut))),
        "dilation r=3": (timer(lambda: dilate_ball(zone, 3)), timer(lambda: dense_dilation(zone, 3), 1, False)),
        "dilation r=9": (timer(lambda: dilate_ball(zone, 9)), timer(lambda: dense_dilation(zone, 9), 1, False)),
    }


def whole_cases(chunk: torch.Tensor, config: AugmentationConfig, timer: Timer) -> dict[str, tuple[float, float]]:
    """Milliseconds (ours, baseline) of whole views, per batch."""
    shape = (int(chunk.shape[2]), int(chunk.shape[3]), int(chunk.shape[4]))
    theta = published_theta(None, torch.zeros(1, 3), published_scale(shape, config.final_crop_size, 5.0))
    theta, size = theta.to(chunk.device), config.final_img_size
    # The published dilation pads every radius to the largest kernel, so its cost is that of the largest radius.
    largest = max(config.active_zone_inflation_radii)
    baseline = timer(lambda: dense_view(chunk, theta, size, largest, True), 1, False)
    simple = timer(lambda: dense_view(chunk, theta, size, 3, False), 1, False)
    cases, source = {}, torch.Generator().manual_seed(0)
    for fidelity in ("corrected", "published"):
        augmenter = Augmenter(config.replaced(fidelity=fidelity))
        extracter = Augmenter(config.for_extraction().replaced(fidelity=fidelity))
        bare = Augmenter(config.for_extraction().replaced(fidelity=fidelity, enable_active_zone=False))
        cases[f"so3 view, {fidelity}"] = (timer(lambda a=augmenter: a(chunk, source)), baseline)
        pair = timer(lambda a=augmenter: a.views(chunk, 2, source))
        cases[f"so3 two views in one pass, {fidelity}"] = (pair, 2 * baseline)
        cases[f"extract view, {fidelity}"] = (timer(lambda a=extracter: a(chunk)), simple)
        cases[f"extract view without active zone, {fidelity}"] = (timer(lambda a=bare: a(chunk)), simple)
    return cases


def main() -> None:
    """Run the benchmark and write its result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small chunks, one repeat")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    device = torch.device(options.device)
    shape, config = (256, 256, 52), AugmentationConfig.so3()
    if options.quick:
        shape, config = (80, 80, 32), AugmentationConfig.so3(axial_to_sagittal_spacing=2.5).resized(64, 32)
    chunk = synthetic_chunks(options.batch, shape).to(device)
    timer = Timer(device, 1 if options.quick else 3)
    cases = {**operation_cases(chunk, config, timer), **whole_cases(chunk, config, timer)}
    unit = f"ms per batch of {options.batch}"
    rows = [
        {"case": case, "ours": round(ours, 2), "baseline": round(base, 2), "unit": unit, "ratio": round(base / ours, 2)}
        for case, (ours, base) in cases.items()
    ]
    machine = {
        "processor": platform.processor() or platform.machine(),
        "threads": options.threads,
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "chunk": list(shape),
        "image": config.final_img_size,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")
    for row in rows:
        print(f"{row['case']:45s} {row['ours']:10.1f} {row['baseline']:10.1f} ms  {row['ratio']:7.1f} x")


if __name__ == "__main__":
    main()
