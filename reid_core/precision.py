"""In which precision, on which device and with which attention kernel something is computed."""

import functools
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

# Gradients through saturated softmaxes are full of numbers below 1e-38, for which a product takes a processor
# up to two hundred times as long; they become zero. Here, since threads that torch makes later inherit it.
torch.set_flush_denormal(True)


def in_float32(function):
    """Run a function of tensors in float32, whatever autocast says: distances and log-sums need the digits.
    float64 stays as it is."""

    @functools.wraps(function)
    def wrapped(*args, **options):
        with torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
            named = {name: widened(value) for name, value in options.items()}
            return function(*map(widened, args), **named)

    return wrapped


def widened(value):
    """A tensor of half precision in float32; anything else as it is."""
    half = isinstance(value, torch.Tensor) and value.dtype in (torch.bfloat16, torch.float16)
    return value.float() if half else value


def pick_device(name=None):
    """The named device, or a GPU if there is one."""
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


def usable(precision, device):
    """The precision, or "fp32" for "bf16" on a processor without products of bfloat16, where each takes up to
    twenty times as long as in float32. With them a step is a little faster than in float32, and with AMX
    tiles twice as fast."""
    if torch.device(device).type != "cpu" or precision != "bf16":
        return precision
    told = getattr(torch.cpu, "get_capabilities", dict)()  # older versions of torch do not say
    return precision if told.get("avx512_bf16") or told.get("amx_bf16") else "fp32"


ON_PROCESSOR = [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]  # the second where the first cannot


def attend(q, k, v, mask=None):
    """softmax(q k^T / sqrt(d) + mask) v: q (..., Q, d), k and v (..., T, d) -> (..., Q, d). `mask`: numbers
    that are added, of a shape that stretches to (..., Q, T).

    On a processor with the fused kernel in float32, under autocast too: it takes four times as long in
    bfloat16 at ReID's short sequences. Two products in bfloat16 around a softmax in float32 take half as
    long, but round logits and their gradients: with them PAD forgot more of its first domain (seen with two
    seeds; not kept).
    """
    mask = None if mask is None else mask.to(q.dtype)  # the kernel misreads float32 beside float64
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    with sdpa_kernel(ON_PROCESSOR):
        return in_float32(F.scaled_dot_product_attention)(q, k, v, attn_mask=mask).to(v.dtype)


def attention_backend(device, deterministic):
    """Plain attention wherever bits must repeat, and on a CPU for what does not go through `attend` (timm's
    blocks); elsewhere PyTorch chooses."""
    torch.use_deterministic_algorithms(deterministic)
    if deterministic:
        torch.backends.cudnn.benchmark = False
    return sdpa_kernel(SDPBackend.MATH) if deterministic or device.type == "cpu" else nullcontext()
