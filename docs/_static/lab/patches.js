// Chapters 01 and 02 in JavaScript: cut a picture into patches, put them back, and decide which ones the model may see.
//
// The same seed gives the same mask as minimae.make_mask(torch.tensor([0]), grid, …): every random number is a hash of
// (seed, stream, epoch, image, index), see minimae/random.py; here stream 1, epoch 0, image 0. Sums are rounded to single precision
// where PyTorch rounds them.

// Calls visit(index in the picture, index in the patches) for every value. Pictures are `height width channels`, row by row.
function eachValue({ grid: [h, w], patch: [p1, p2], channels: c }, visit) {
  for (let row = 0; row < h * p1; row++) for (let column = 0; column < w * p2; column++) for (let channel = 0; channel < c; channel++) {
    const patch = Math.floor(row / p1) * w + Math.floor(column / p2), inside = (row % p1) * p2 + (column % p2)
    visit((row * w * p2 + column) * c + channel, (patch * p1 * p2 + inside) * c + channel)
  }
}

function patchify(picture, size) {  // (h p1) (w p2) c → (h w) (p1 p2 c)
  const patches = new Float32Array(picture.length)
  eachValue(size, (from, to) => { patches[to] = picture[from] })
  return patches
}

function unpatchify(patches, size) {  // the exact inverse
  const picture = new Float32Array(patches.length)
  eachValue(size, (to, from) => { picture[to] = patches[from] })
  return picture
}

const masks = (() => {
  const BLOCKS = 32, single = Math.fround, bits64 = x => BigInt.asUintN(64, x)

  function finalise(x) {  // SplitMix64
    x = bits64((x ^ (x >> 30n)) * 0xbf58476d1ce4e5b9n)
    x = bits64((x ^ (x >> 27n)) * 0x94d049bb133111ebn)
    return x ^ (x >> 31n)
  }

  function uniforms(seed, count) {  // numbers in [0, 1) with 24 random bits
    let key = 0n
    for (const part of [BigInt(seed), 1n, 0n, 0n]) key = finalise(bits64((key ^ part) + 0x9e3779b97f4a7c15n))
    return Array.from({ length: count }, (_, i) => Number(finalise(bits64((key ^ BigInt(i)) + 0x9e3779b97f4a7c15n)) >> 40n) / 2 ** 24)
  }

  const even = x => (Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x))  // halves go to the even number
  const clamp = (x, low, high) => Math.min(Math.max(x, low), high)
  const keepCount = (n, ratio) => Math.floor(Number((n * (1 - ratio)).toFixed(6)) + 0.5)

  function fromNoise(noise, keep) {  // the patches with the smallest numbers stay visible
    const order = noise.map((_, i) => i).sort((a, b) => noise[a] - noise[b] || a - b)
    return { keep: order.slice(0, keep), masked: order.slice(keep) }
  }

  function random(seed, [h, w], ratio) {
    return fromNoise(uniforms(seed, h * w), keepCount(h * w, ratio))
  }

  function block(seed, [h, w], ratio) {
    const n = h * w, noise = uniforms(seed, n + 4 * BLOCKS), toMask = n - keepCount(n, ratio), turn = new Array(n).fill(BLOCKS)
    for (let i = 0; i < BLOCKS; i++) {
      const [area, aspect, top, left] = noise.slice(n + 4 * i, n + 4 * i + 4)
      const open = Math.max(0, toMask - turn.filter(when => when < BLOCKS).length)
      if (!open) break
      const size = single(0.08 * n + single(area * Math.max(0, single(open - 0.08 * n))))
      const shape = single(Math.exp(single(single(2 * aspect - 1) * single(Math.log(1 / 0.3)))))
      const tall = clamp(even(single(Math.sqrt(single(size * shape)))), 1, h)
      const wide = clamp(even(single(Math.sqrt(single(size / shape)))), 1, w)
      const row = Math.floor(single(top * (h - tall + 1))), column = Math.floor(single(left * (w - wide + 1)))
      for (let y = row; y < row + tall; y++) for (let x = column; x < column + wide; x++) {
        if (turn[y * w + x] === BLOCKS) turn[y * w + x] = i
      }
    }
    return fromNoise(turn.map((when, i) => -single(when + noise[i])), n - toMask)
  }

  function grid(seed, [h, w], ratio) {
    const n = h * w, noise = uniforms(seed, n + 1), stride = Math.max(2, even((1 - ratio) ** -0.5))
    const shift = Math.floor(single(noise[n] * stride ** 2)), down = Math.floor(shift / stride), across = shift % stride
    const off = i => !(Math.floor(i / w) % stride === down && (i % w) % stride === across)
    return fromNoise(noise.slice(0, n).map((value, i) => single(value + off(i))), keepCount(n, ratio))
  }

  return { random, block, grid, keepCount }
})()
