"""Noise: the hash is SplitMix64 to the bit, its numbers are uniform, and neighbours in the address do not resemble each other."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import address_hash, splitmix64

from minimae.random import STREAMS, hash_bits, permutation, uniforms

int64 = st.integers(-(2**63), 2**63 - 1)


def test_the_oracle_gives_the_published_first_output_of_splitmix64():
    assert splitmix64(0) == 0xE220A8397B1DCDAF


@given(seed=int64, stream=st.sampled_from(list(STREAMS)), epoch=st.integers(0, 2**40), ids=st.lists(int64, min_size=1, max_size=4))
def test_the_hash_equals_splitmix64_in_integers_modulo_two_to_the_64(seed, stream, epoch, ids):
    bits = hash_bits(seed, stream, epoch, torch.tensor(ids), 5)
    expected = [[address_hash(seed, STREAMS[stream], epoch, i, index) for index in range(5)] for i in ids]
    assert [[int(v) % 2**64 for v in row] for row in bits] == expected


@given(seed=int64, epoch=st.integers(0, 1000), sample=int64)
def test_a_uniform_is_the_top_24_bits_of_the_hash(seed, epoch, sample):
    (row,) = uniforms(seed, "crop", epoch, torch.tensor([sample]), 4).tolist()
    assert row == [(address_hash(seed, STREAMS["crop"], epoch, sample, i) >> 40) / 2**24 for i in range(4)]


def test_uniforms_are_uniform():
    u = uniforms(0, "mask", 0, torch.arange(1000), 200)
    assert u.dtype == torch.float32 and u.min() >= 0 and u.max() < 1
    counts = torch.histc(u, bins=100, min=0, max=1)
    chi_square = ((counts - 2000) ** 2 / 2000).sum()  # 99 degrees of freedom: mean 99, deviation 14
    assert 55 < chi_square < 160


def test_streams_seeds_epochs_samples_and_indices_are_not_correlated():
    ids, n = torch.arange(2000), 50

    def standardised(**address):
        full = dict(seed=0, stream="mask", epoch=0, ids=ids) | address
        return ((uniforms(**full, count=n) - 0.5) * 12**0.5).flatten()

    kinds = [standardised(stream=s) for s in STREAMS]
    kinds += [standardised(seed=s) for s in (1, 2, -1)] + [standardised(epoch=e) for e in (1, 2)] + [standardised(ids=ids + 2000)]
    for a, b in itertools.combinations(kinds, 2):
        assert abs((a * b).mean()) < 5 / (2000 * n) ** 0.5
    table = standardised().view(2000, n)
    assert abs((table[:, 1:] * table[:, :-1]).mean()) < 5 / (2000 * n) ** 0.5
    assert abs((table[1:] * table[:-1]).mean()) < 5 / (2000 * n) ** 0.5


def test_swapping_two_parts_of_an_address_gives_another_number():
    a = {int(hash_bits(seed, "mask", epoch, torch.tensor([i]), 1)) for seed, epoch, i in itertools.permutations((3, 5, 7))}
    assert len(a) == 6


def test_a_batch_may_reach_over_the_end_of_an_epoch():
    ids, epochs = torch.tensor([8, 9, 3, 5]), torch.tensor([0, 0, 1, 1])
    expected = torch.cat([hash_bits(0, "crop", 0, ids[:2], 6), hash_bits(0, "crop", 1, ids[2:], 6)])
    assert torch.equal(hash_bits(0, "crop", epochs, ids, 6), expected)


@given(seed=st.integers(0, 99), epoch=st.integers(0, 99), length=st.integers(0, 300))
def test_a_permutation_is_a_permutation(seed, epoch, length):
    order = permutation(seed, "order", epoch, length)
    assert order.sort().values.tolist() == list(range(length))
    assert torch.equal(order, permutation(seed, "order", epoch, length))


def test_permutations_put_each_item_in_each_place_equally_often():
    places = torch.stack([permutation(seed, "order", 0, 5) for seed in range(2000)])
    counts = torch.stack([(places == item).sum(0) for item in range(5)]).double()
    chi_square = ((counts - 400) ** 2 / 400).sum()  # 16 degrees of freedom
    assert chi_square < 45
    assert not torch.equal(permutation(0, "order", 0, 100), permutation(0, "order", 1, 100))


def test_the_global_generator_is_neither_read_nor_moved():
    torch.manual_seed(1)
    before, state = uniforms(0, "mask", 0, torch.arange(4), 9), torch.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(before, uniforms(0, "mask", 0, torch.arange(4), 9))
    torch.manual_seed(1)
    assert torch.equal(state, torch.get_rng_state())


def test_an_unknown_stream_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown random stream 'maks'; known: mask, crop"):
        hash_bits(0, "maks", 0, torch.arange(3), 1)
