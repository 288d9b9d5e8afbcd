"""Serving requests from a KV memory of fixed size: they wait for room, run together, leave; one iteration at a time.

`serve` is the scheduler, with the real allocators. What an iteration takes is asked of `seconds`: a model of a device
(`Roofline`), and then it is a discrete-event simulation, or a language model that really runs, timed.
"""

import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from kernels.cache.buddy import BuddyAllocator, OutOfRoom
from kernels.cache.paged import PAGE, BlockPool, BlockTable, OutOfBlocks


@dataclass(eq=False)
class Request:
    """One prompt and how many tokens are to follow it. `done` of them are there; times in seconds."""

    arrival: float
    prompt: int
    output: int
    done: int = 0
    finished: float = math.inf
    preempted: int = 0

    @property
    def latency(self) -> float:
        """Seconds from its arrival to its end, a token of output."""
        return (self.finished - self.arrival) / self.output


MEANS = {"ShareGPT": (161.31, 337.99), "Alpaca": (19.31, 58.45)}  # tokens of input and output, the paper's Figure 11
LONGEST = 2048


def trace(kind: str, count: int, rate: float, seed: int, scale: float = 1.0) -> list[Request]:
    """`count` requests, Poisson arrivals of `rate` a second (all at 0 if it is infinite).

    Lengths are log-normal (sigma 1) with the data set's published means, both shrunk by `scale`, cut at 2048 tokens.
    """
    draw = random.Random(seed)
    at, made = 0.0, []
    for _ in range(count):
        prompt, output = (max(1, round(draw.lognormvariate(math.log(mean * scale) - 0.5, 1))) for mean in MEANS[kind])
        prompt = min(prompt, LONGEST // 2)
        at += draw.expovariate(rate) if math.isfinite(rate) else 0.0
        made.append(Request(at, prompt, min(output, LONGEST - prompt)))
    return made


class Memory(Protocol):
    """A KV memory. `tables`: what each running request holds."""

    pool: BlockPool
    tables: dict[Request, BlockTable]

    def admit(self, request: Request) -> bool:
        """Room for its prompt and what it has generated before, or False."""

    def grow(self, request: Request) -> bool:
        """Room for one token more, or False."""

    def release(self, request: Request) -> None:
        """Give back all it holds."""

    @property
    def allocated(self) -> int:
        """Slots that no other request can have now."""


class Paged:
    """Blocks of 16 as they are needed."""

    def __init__(self, slots: int):
        self.pool = BlockPool(slots // PAGE)
        self.tables: dict[Request, BlockTable] = {}

    def admit(self, request: Request) -> bool:
        table = BlockTable()
        try:
            self.pool.grow(table, request.prompt + request.done)
        except OutOfBlocks:
            return False
        self.tables[request] = table
        return True

    def grow(self, request: Request) -> bool:
        try:
            self.pool.grow(self.tables[request])
        except OutOfBlocks:
            return False
        return True

    def release(self, request: Request) -> None:
        self.pool.drop(self.tables.pop(request))

    @property
    def allocated(self) -> int:
        return self.pool.used * PAGE


ROOMS: dict[str, Callable[[Request, int], int]] = {  # tokens reserved for a request, given the model's longest text
    "Orca (Max)": lambda request, longest: longest,
    "Orca (Pow2)": lambda request, longest: min(request.prompt + (1 << (request.output - 1).bit_length()), longest),
    "Orca (Oracle)": lambda request, longest: request.prompt + request.output,
}


class Reserved:
    """One contiguous chunk a request, for all it may need, by a buddy allocator whose unit is 16 tokens."""

    def __init__(self, slots: int, room: Callable[[Request, int], int], longest: int = LONGEST):
        self.buddy, self.room, self.longest = BuddyAllocator(slots // PAGE), room, longest
        self.pool = BlockPool(slots // PAGE)  # of which tables name blocks in a row; it hands out none
        self.tables: dict[Request, BlockTable] = {}

    def admit(self, request: Request) -> bool:
        try:
            start = self.buddy.take(-(-self.room(request, self.longest) // PAGE))
        except OutOfRoom:
            return False
        blocks = list(range(start, start + self.buddy.taken[start]))
        self.tables[request] = BlockTable(blocks, request.prompt + request.done)
        return True

    def grow(self, request: Request) -> bool:
        self.tables[request].length += 1
        return True

    def release(self, request: Request) -> None:
        self.buddy.release(self.tables.pop(request).blocks[0])

    @property
    def allocated(self) -> int:
        return self.buddy.used * PAGE


@dataclass(frozen=True)
class Roofline:
    """Seconds of an iteration: all weights and the running requests' keys and values read once, or all products done,
    whichever takes longer. By default OPT-13B in float16 on an A100 of 40 GB: 1.555 TB/s and 312 TFLOP/s."""

    parameters: float = 13e9
    kv_bytes: float = 2 * 40 * 5120 * 2  # a token
    bandwidth: float = 1.555e12
    peak: float = 312e12

    def __call__(self, fresh: Sequence[Request], running: Sequence[Request], memory: Memory) -> float:
        held = sum(table.length for table in memory.tables.values())
        computed = len(running) + sum(request.prompt + request.done for request in fresh)
        read = 2 * self.parameters + self.kv_bytes * held
        return max(read / self.bandwidth, 2 * self.parameters * computed / self.peak)


Seconds = Callable[[Sequence[Request], Sequence[Request], Memory], float]


@dataclass
class Served:
    """Means over the time in which requests waited for room, after the first tenth of them was done, weighted by time:
    requests running at once, and slots that hold token states, are kept for tokens to come, or are allocated. `rate`:
    requests finished a second in that time."""

    seconds: float = 0.0
    finished: int = 0
    running: float = 0.0
    states: float = 0.0
    coming: float = 0.0
    allocated: float = 0.0

    def add(self, seconds: float, finished: int, memory: Memory) -> None:
        """One iteration."""
        self.seconds, self.finished = self.seconds + seconds, self.finished + finished
        self.running += seconds * len(memory.tables)
        self.states += seconds * sum(table.length for table in memory.tables.values())
        self.allocated += seconds * memory.allocated
        if isinstance(memory, Reserved):
            self.coming += seconds * sum(one.prompt + one.output - t.length for one, t in memory.tables.items())

    def mean(self, what: str) -> float:
        """Of "running", "states", "coming", "allocated" or "finished", a second."""
        return getattr(self, what) / self.seconds


def serve(requests: Sequence[Request], memory: Memory, seconds: Seconds) -> Served:
    """Serve all of `requests`, sorted by arrival: first come, first served; each iteration gives every running request
    a token. Where one finds no room, the latest to arrive is preempted whole and computed again later.

    `seconds(fresh, others, memory)` runs or prices an iteration: prompts of `fresh`, one token for each of `others`.
    ValueError for a request that the memory never has room for.
    """
    waiting, running = deque(requests), list[Request]()
    clock, ended, seen = 0.0, 0, Served()
    while waiting or running:
        fresh = []
        while waiting and waiting[0].arrival <= clock and memory.admit(waiting[0]):
            fresh.append(waiting.popleft())
        others = _grow(running, waiting, fresh, memory)
        running = others + fresh
        if not running:
            if waiting[0].arrival <= clock:
                raise ValueError(f"a request of {waiting[0].prompt} + {waiting[0].output} tokens: no room for it")
            clock = waiting[0].arrival
            continue
        spent = seconds(fresh, others, memory)
        clock += spent
        for request in running:
            request.done += 1
        over = [request for request in running if request.done == request.output]
        if ended >= len(requests) // 10 and waiting and waiting[0].arrival <= clock:
            seen.add(spent, len(over), memory)
        ended += len(over)
        for request in over:
            request.finished = clock
            memory.release(request)
        running = [request for request in running if request.done < request.output]
    return seen


def _grow(running: list[Request], waiting: deque[Request], fresh: list[Request], memory: Memory) -> list[Request]:
    """Those of `running`, sorted by arrival, that have room for one token more; who gave way waits again."""
    grown: list[Request] = []
    left = deque(running)
    while left:
        request = left.popleft()
        while not memory.grow(request):
            victim = fresh.pop() if fresh else left.pop() if left else request
            memory.release(victim)
            victim.preempted += 1
            waiting.appendleft(victim)
            if victim is request:
                return grown
        grown.append(request)
    return grown


def sampled(request: Request, width: int) -> tuple[int, int]:
    """Blocks that `width` samples of one prompt hold, summed over their steps: as they share them, and apart."""
    tokens = request.prompt + request.output
    pool = BlockPool(width * -(-tokens // PAGE))
    tables = [BlockTable()]
    pool.grow(tables[0], request.prompt)
    tables += [pool.fork(tables[0]) for _ in range(width - 1)]
    shared = apart = 0
    while (length := tables[0].length) < tokens - 1:
        steps = min(tokens - 1 - length, PAGE - length % PAGE)  # in which nobody takes a block but with the first
        for table in tables:
            pool.grow(table, steps)
        shared += steps * pool.used
        apart += steps * sum(len(table.blocks) for table in tables)
    return shared, apart
