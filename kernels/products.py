"""What matrix products do while they run, counted: operations, and the bytes of what they read on the right.

In attention the right-hand operands are the keys and the values; in a layer, its weights. A copy that was made on the
way counts as large as it is.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

BATCHED = {torch.ops.aten.bmm.default: (0, 1), torch.ops.aten.baddbmm.default: (1, 2)}
PLAIN = {torch.ops.aten.mm.default: (0, 1), torch.ops.aten.addmm.default: (1, 2)}


class Products(TorchDispatchMode):
    """`with Products() as count:` counts every product: `flops` of all, `batched_flops` of those with a batch
    (attention's), `batched_right` and `plain_right` bytes of right-hand operands, `moved` bytes of both and the result.
    """

    def __init__(self):
        super().__init__()
        self.flops = self.batched_flops = self.batched_right = self.plain_right = 0
        self.moved = self.batched_moved = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        batched = func in BATCHED
        if batched or func in PLAIN:
            left, right = (args[i] for i in (BATCHED if batched else PLAIN)[func])
            flops = 2 * left.numel() * right.shape[-1]
            moved = sum(x.numel() * x.itemsize for x in (left, right, out))
            self.flops, self.moved = self.flops + flops, self.moved + moved
            if batched:
                self.batched_flops += flops
                self.batched_right += right.numel() * right.itemsize
                self.batched_moved += moved
            else:
                self.plain_right += right.numel() * right.itemsize
        return out
