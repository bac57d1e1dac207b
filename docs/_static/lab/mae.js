// The forward pass of a masked autoencoder in plain JavaScript: chapters 01 to 05 again, without a library.
//
// The page turns this function into text and starts it as a web worker, so that the page stays responsive, also when it is opened
// from disk. Letters as in the book: n patches, k visible, t tokens, d width, e width of one head.

function mae() {
  let model, maps  // the loaded weights; of the last picture, the attention of every block

  // A matrix of `rows` × `columns`. The rows are padded to a multiple of 4, because `linear` computes 4 × 4 values at a time.
  const matrix = (rows, columns) => ({ rows, columns, data: new Float32Array(((rows + 3) & ~3) * columns) })

  // x (rows × K) and weight (M × K) → x · weightᵀ + bias (rows × M). Sixteen sums at a time stay in registers.
  function linear(x, weight, bias) {
    const K = x.columns, M = weight.rows, out = matrix(x.rows, M), X = x.data, W = weight.data, Y = out.data
    for (let i = 0; i < x.rows; i += 4) for (let j = 0; j < M; j += 4) {
      const a = i * K, b = a + K, c = b + K, d = c + K, p = j * K, q = p + K, r = q + K, s = r + K
      let a0 = 0, a1 = 0, a2 = 0, a3 = 0, b0 = 0, b1 = 0, b2 = 0, b3 = 0, c0 = 0, c1 = 0, c2 = 0, c3 = 0, d0 = 0, d1 = 0, d2 = 0, d3 = 0
      for (let k = 0; k < K; k++) {
        const A = X[a + k], B = X[b + k], C = X[c + k], D = X[d + k]
        let w = W[p + k]; a0 += A * w; b0 += B * w; c0 += C * w; d0 += D * w
        w = W[q + k]; a1 += A * w; b1 += B * w; c1 += C * w; d1 += D * w
        w = W[r + k]; a2 += A * w; b2 += B * w; c2 += C * w; d2 += D * w
        w = W[s + k]; a3 += A * w; b3 += B * w; c3 += C * w; d3 += D * w
      }
      let o = i * M + j; Y[o] = a0; Y[o + 1] = a1; Y[o + 2] = a2; Y[o + 3] = a3
      o += M; Y[o] = b0; Y[o + 1] = b1; Y[o + 2] = b2; Y[o + 3] = b3
      o += M; Y[o] = c0; Y[o + 1] = c1; Y[o + 2] = c2; Y[o + 3] = c3
      o += M; Y[o] = d0; Y[o + 1] = d1; Y[o + 2] = d2; Y[o + 3] = d3
    }
    if (bias) for (let i = 0; i < x.rows; i++) for (let j = 0; j < M; j++) Y[i * M + j] += bias.data[j]
    return out
  }

  const dense = (x, name) => linear(x, model.tensors[name + ".weight"], model.tensors[name + ".bias"])

  function add(x, y) {
    for (let i = 0; i < x.data.length; i++) x.data[i] += y.data[i]
    return x
  }

  function norm(x, name) {
    const d = x.columns, out = matrix(x.rows, d), gain = model.tensors[name + ".weight"].data, shift = model.tensors[name + ".bias"].data
    for (let i = 0; i < x.rows; i++) {
      const row = x.data.subarray(i * d, (i + 1) * d)
      let mean = 0, variance = 0
      for (const value of row) mean += value / d
      for (const value of row) variance += (value - mean) ** 2 / d
      const scale = 1 / Math.sqrt(variance + model.size.eps)
      for (let j = 0; j < d; j++) out.data[i * d + j] = (row[j] - mean) * scale * gain[j] + shift[j]
    }
    return out
  }

  // A function from a table, between two of whose values it runs straight: exp and erf took half of the time. Errors stay below 0.00001.
  function tabulated(f, low, high, steps = 8192) {
    const scale = steps / (high - low), values = Float64Array.from({ length: steps + 2 }, (_, i) => f(low + i / scale))
    return x => {
      const at = (x - low) * scale, i = at | 0
      return values[i] + (at - i) * (values[i + 1] - values[i])
    }
  }

  // The error function to seven digits (Abramowitz and Stegun, 7.1.26).
  function erf(x) {
    const t = 1 / (1 + 0.3275911 * Math.abs(x))
    const tail = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429)))) * Math.exp(-x * x)
    return x < 0 ? tail - 1 : 1 - tail
  }

  const exponential = tabulated(Math.exp, -20, 0), bell = tabulated(x => 0.5 * (1 + erf(x * Math.SQRT1_2)), -6, 6)

  function gelu(x) {  // exact, not the approximation by tanh
    for (let i = 0, data = x.data; i < data.length; i++) data[i] *= data[i] > -6 ? (data[i] < 6 ? bell(data[i]) : 1) : 0
    return x
  }

  function softmax(scores, t) {  // over the first t columns of each row; the rest is padding, and becomes 0
    for (let i = 0; i < scores.rows; i++) {
      const row = scores.data.subarray(i * scores.columns, (i + 1) * scores.columns)
      let top = -Infinity, sum = 0
      for (let j = 0; j < t; j++) if (row[j] > top) top = row[j]
      for (let j = 0; j < t; j++) sum += row[j] = row[j] - top > -20 ? exponential(row[j] - top) : 0
      for (let j = 0; j < row.length; j++) row[j] = j < t ? row[j] / sum : 0
    }
    return scores
  }

  function attention(x, name, heads) {
    const t = x.rows, d = x.columns, e = d / heads, padded = (t + 3) & ~3, qkv = dense(x, name + ".qkv").data
    const mixed = matrix(t, d), map = new Float32Array(t * t)
    for (let head = 0; head < heads; head++) {
      const q = matrix(t, e), k = matrix(padded, e), vT = matrix(e, padded)  // e is a multiple of 4
      for (let i = 0; i < t; i++) for (let j = 0; j < e; j++) {
        const at = i * 3 * d + head * e + j
        q.data[i * e + j] = qkv[at] / Math.sqrt(e)
        k.data[i * e + j] = qkv[at + d]
        vT.data[j * padded + i] = qkv[at + 2 * d]
      }
      const weights = softmax(linear(q, k), t), out = linear(weights, vT)
      for (let i = 0; i < t; i++) {
        mixed.data.set(out.data.subarray(i * e, (i + 1) * e), i * d + head * e)
        for (let j = 0; j < t; j++) map[i * t + j] += weights.data[i * padded + j] / heads
      }
    }
    maps.push(map)
    return dense(mixed, name + ".out")
  }

  function block(x, name, heads) {
    x = add(x, attention(norm(x, name + ".norm1"), name + ".attention", heads))
    return add(x, dense(gelu(dense(norm(x, name + ".norm2"), name + ".mlp.up")), name + ".mlp.down"))
  }

  // Row `row` of the table `from` is added to row `to` of x.
  function addRow(x, to, from, row) {
    for (let j = 0; j < x.columns; j++) x.data[to * x.columns + j] += from.data[row * x.columns + j]
  }

  // Normalised pixels `n × values`, row by row, and the indices of visible and hidden patches → predictions `m × values`.
  function reconstruct(patches, keep, masked, report) {
    const { size, tensors } = model, values = size.values, k = keep.length, visible = matrix(k, values)
    keep.forEach((patch, i) => visible.data.set(patches.subarray(patch * values, (patch + 1) * values), i * values))
    maps = []
    // The encoder: [class | visible], positions added after the hidden patches are gone.
    const projected = dense(visible, "encoder.project"), tokens = matrix(1 + k, size.width)
    tokens.data.set(projected.data.subarray(0, k * size.width), size.width)
    addRow(tokens, 0, tensors["encoder.class_token"], 0)
    keep.forEach((patch, i) => addRow(tokens, 1 + i, tensors["encoder.positions"], 1 + patch))
    let x = tokens
    for (let i = 0; i < size.depth; i++) {
      x = block(x, `encoder.blocks.${i}`, size.heads)
      report(maps.length)
    }
    // The decoder: [class | visible | mask tokens], each with the position of its own patch. No unshuffle is needed.
    const latent = dense(norm(x, "encoder.norm"), "decoder.embed"), full = matrix(1 + k + masked.length, size.decoder_width)
    full.data.set(latent.data.subarray(0, (1 + k) * size.decoder_width))
    masked.forEach((_, i) => addRow(full, 1 + k + i, tensors["decoder.mask_token"], 0));
    [...keep, ...masked].forEach((patch, i) => addRow(full, 1 + i, tensors["decoder.positions"], 1 + patch))
    x = full
    for (let i = 0; i < size.decoder_depth; i++) {
      x = block(x, `decoder.blocks.${i}`, size.decoder_heads)
      report(maps.length)
    }
    return dense(norm(x, "decoder.norm"), "decoder.predict").data.slice((1 + k) * values, (1 + k + masked.length) * values)
  }

  // Half-precision numbers as they lie in the file → single precision.
  function floats(halves) {
    return Float32Array.from(halves, bits => {
      const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023
      return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -24 * fraction)
    })
  }

  self.onmessage = ({ data: { load, run, attended, id } }) => {
    if (load) {
      const halves = new Uint16Array(load.buffer)
      model = { size: load.size, tensors: {} }
      for (const [name, { start, rows, columns }] of Object.entries(load.tensors)) {
        model.tensors[name] = { rows, columns, data: floats(halves.subarray(start, start + rows * columns)) }
      }
      return self.postMessage({ id })
    }
    if (run) {
      const began = performance.now()
      const predicted = reconstruct(run.patches, run.keep, run.masked, done => self.postMessage({ progress: done }))
      return self.postMessage({ id, predicted, milliseconds: performance.now() - began })
    }
    self.postMessage({ id, map: maps[attended] })  // t × t: row i says where token i looks
  }
}
