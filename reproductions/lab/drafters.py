"""A small trained drafter: one decoder layer that continues a model's last hidden states. Shared by several works.

From the model's normed state f_t at a place and the token x_(t+1) that follows it, it makes a guess of f_(t+1), whose
likeliest tokens through the model's own projection are the drafts for x_(t+2); its guesses serve as states further on.
E width, N tokens, R tokens that it may name, V all tokens.
"""

import copy
import inspect
import json
import textwrap
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kernels.cache.contiguous import ContiguousCache
from kernels.decoding.sampling import distribution
from kernels.decoding.tree import Tree
from reproductions.lab import caching, own_text
from reproductions.lab.heads import falling
from reproductions.lab.prepared import prepared
from reproductions.spec import ParameterError

DOMAINS = ("prose", "code")
MIX = 10.0  # of the mix's output: from nothing it would learn too slowly
FIRST_WORD = 1000  # from this token on most are words
LETTERS = 6  # at most of a token, in these texts


class FeatureLayer(nn.Module):
    """A copy of the model's last layer and norm behind a mix of state and token; starts as that layer, once more.

    A normed state is scaled back to the size that the layer knows: what it adds would drown it otherwise.
    """

    def __init__(self, model):
        super().__init__()
        width = model.config.hidden_size
        self.mix = nn.Linear(2 * width, width, bias=False, device=model.device)
        nn.init.zeros_(self.mix.weight)
        scale = _size(model) / model.model.norm.weight.detach().float()
        self.register_buffer("scale", scale.to(model.dtype))
        self.layer, self.norm = copy.deepcopy(model.model.layers[-1]), copy.deepcopy(model.model.norm)
        self.layer.self_attn.layer_idx = 0
        self.requires_grad_(True)

    def forward(self, states: Tensor, tokens: Tensor, angles, mask=None, cache=None) -> Tensor:
        """states f_t and embeddings of x_(t+1), both (B, N, E) -> guesses of f_(t+1), (B, N, E)."""
        both = torch.cat([nn.functional.rms_norm(x, x.shape[-1:]) for x in (states, tokens)], -1)
        x = self.scale * states + MIX * self.mix(both)
        return self.norm(self.layer(x, attention_mask=mask, position_embeddings=angles, cache=cache))


@torch.no_grad()
def _size(model) -> Tensor:
    """Root mean square of what the last layer is given, over some tokens; the first one's is far larger."""
    ids = torch.arange(FIRST_WORD, FIRST_WORD + 32, device=model.device)[None]
    return model(ids, output_hidden_states=True).hidden_states[-2][0, 1:].float().pow(2).mean().sqrt()


class FeatureDrafter:
    """Trees whose levels have `widths` children a node; a chain of K where all are 1. For `decode`, one text at a time.

    At temperature 0 the children are the likeliest tokens; else each is drawn, independently, from the drafter's
    distribution at that temperature and nucleus, which the tree carries.
    """

    def __init__(self, model, layer: FeatureLayer, words: Tensor, widths: Sequence[int], capacity: int,
                 temperature: float = 0.0, top_p: float = 1.0):  # fmt: skip
        config, own = model.config, layer.layer.self_attn
        self.model, self.layer, self.words, self.widths = model, layer, words, widths
        self.table = model.lm_head.weight[words]
        self.temperature, self.top_p = temperature, top_p
        heads, dtype, device = config.num_key_value_heads, model.dtype, model.device
        self.cache = ContiguousCache(1, 1, heads, capacity, own.head_dim, dtype, device)

    @torch.no_grad()
    def draft(self, ids: list[int], states: Tensor, generator=None) -> Tree:
        """Catch up with what the model has read since, then draft level by level below ids[-1]."""
        new = len(states)
        self.cache.cut(len(ids) - 1 - new)
        before = torch.ones(new, self.cache.length, dtype=torch.bool)
        seen = torch.cat([before, torch.ones(new, new, dtype=torch.bool).tril()], 1)
        guess = self._read(states, ids[-new:], torch.arange(new), seen)[-1:]
        self.cache.keep(list(range(new)))
        tokens: list[int] = []
        parents: list[int] = []
        draws: list[Tensor] = []
        sees = torch.zeros(1, 0, dtype=torch.bool)  # of the last level's nodes: which drafts are above
        level = [0]
        for depth, width in enumerate(self.widths):
            chosen, q = self._choose(guess, width, generator)
            parents += [node for node in level for _ in range(width)]
            draws += [row for row in q for _ in range(width)]
            level = list(range(len(tokens) + 1, len(tokens) + 1 + chosen.numel()))
            tokens += chosen.flatten().tolist()
            if depth + 1 == len(self.widths):
                break
            count = len(level)
            sees = torch.cat([sees.repeat_interleave(width, 0), torch.eye(count, dtype=torch.bool)], 1)
            whole = torch.cat([torch.ones(count, self.cache.length, dtype=torch.bool), sees], 1)
            places = torch.full((count,), depth)
            guess = self._read(guess.repeat_interleave(width, 0), tokens[-count:], places, whole)
            self.cache.start += count
        return Tree(tokens, parents, torch.stack(draws) if self.temperature else None)

    def _read(self, states: Tensor, tokens: list[int], places: Tensor, seen: Tensor) -> Tensor:
        """Guesses (n, E) at `places` after what is kept; `seen` (n, slots)."""
        ids = torch.tensor(tokens, device=states.device)
        angles = self.model.model.rotary_emb(states[None], (places + self.cache.length).to(states.device)[None])
        mask = seen[None, None].to(states.device)
        return self.layer(states[None], self.model.model.embed_tokens(ids)[None], angles, mask, self.cache)[0]

    def _choose(self, guess: Tensor, width: int, generator) -> tuple[Tensor, Tensor]:
        """(tokens (n, width), the distribution each was drawn from, (n, V))."""
        logits = guess @ self.table.mT
        if not self.temperature:
            return self.words[logits.topk(width, -1).indices], logits
        p = distribution(logits, self.temperature, self.top_p)
        q = torch.zeros(len(p), self.model.config.vocab_size, device=p.device).index_copy(1, self.words, p)
        return torch.multinomial(q, width, replacement=True, generator=generator), q


def prompts(lab, tokenizer, domain: str, count: int, length: int, held: bool = False) -> Tensor:
    """(count, length) tokens of prose, the book, or code, the standard library's; `held`: of what is never learnt."""
    text = lab.text() if domain == "prose" else "\n".join(inspect.getsource(m) for m in (textwrap, inspect, json))
    cut = len(text) * 8 // 10
    part = text[cut:] if held else text[:cut]
    if len(part) // count < LETTERS * length:
        most = len(part) // (LETTERS * length)
        raise ParameterError(f"expected at most {most} texts of {length} tokens of {domain}, got {count}")
    return caching.passages(tokenizer, part, count, length, lab.device)


def own(lab, model, tokenizer, *, texts: int, prompt: int, tokens: int) -> list[own_text.Text]:
    """[greedy, sampled]: the model's own `tokens` tokens after `texts` prompts, half of prose and half of code."""
    given = torch.cat([prompts(lab, tokenizer, domain, texts // 2, prompt) for domain in DOMAINS])
    return [own_text.write(lab, model, given, tokens, t, [len(model.model.layers)]) for t in (0.0, 1.0)]


def trained(lab, model, tokenizer, *, texts: int, prompt: int, tokens: int, steps: int) -> tuple[FeatureLayer, Tensor]:
    """(a drafter's layer, the R tokens it may name), trained on what the model has written; kept, by content."""
    written = own(lab, model, tokenizer, texts=texts, prompt=prompt, tokens=tokens)
    ids = torch.cat([text.ids for text in written])
    states = torch.cat([text.states[len(model.model.layers)] for text in written])
    layer = FeatureLayer(model)
    layer.load_state_dict(prepared(_trained, lab=lab, model=model, ids=ids, states=states, steps=steps, seed=lab.seed))
    return layer.to(model.device, model.dtype).eval().requires_grad_(False), ids.unique()


def _trained(lab, model, ids, states, steps, seed, batch=4, rate=1e-3):
    """The layer's weights: cross-entropy to the model's own distribution over the R tokens, one and two steps ahead."""
    layer, words = FeatureLayer(model).float(), ids.unique()
    table, draw = model.lm_head.weight[words].float(), torch.Generator().manual_seed(seed)
    n = ids.shape[1] - 2  # the last token was never read
    angles = model.model.rotary_emb(states[:1].float(), torch.arange(n, device=ids.device)[None])
    optimiser = torch.optim.AdamW(layer.parameters(), lr=rate, weight_decay=0.01)
    for step in falling(optimiser, rate, steps):
        lab.progress("training the drafter", step, steps)
        some = torch.randint(len(ids), (batch,), generator=draw).to(ids.device)
        with torch.no_grad():
            features = model.model.norm(states[some].to(model.dtype)).float()
            words_in = model.model.embed_tokens(ids[some]).float()
            teacher = (features @ table.mT).softmax(-1)
        optimiser.zero_grad()
        guess = layer(features[:, :n], words_in[:, 1 : n + 1], angles)  # of the states at places 1 .. n
        loss = nn.functional.cross_entropy((guess @ table.mT).flatten(0, 1), teacher[:, 1 : n + 1].flatten(0, 1))
        further = layer(guess[:, :-1], words_in[:, 2 : n + 1], [a[:, 1:] for a in angles])
        loss = loss + nn.functional.cross_entropy(
            (further @ table.mT).flatten(0, 1), teacher[:, 2 : n + 1].flatten(0, 1)
        )
        loss.backward()
        nn.utils.clip_grad_norm_(layer.parameters(), 1.0)
        optimiser.step()
    return layer.state_dict()
