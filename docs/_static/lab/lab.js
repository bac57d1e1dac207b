// The page: pictures and masks in, reconstructions and attention out. The model runs in a worker (mae.js) and never asks the network.

const lab = { weights: {}, pictures: {}, calls: new Map(), folder: document.currentScript.src.replace(/[^/]*$/, '') }

lab.script = name => new Promise((resolve, reject) => {
  const tag = Object.assign(document.createElement('script'), { src: `${lab.folder}${name}.js`, onload: resolve })
  tag.onerror = () => reject(new Error(`${name}.js could not be loaded: is the folder _static complete?`))
  document.head.append(tag)
})

lab.call = (message, transfer = []) => new Promise(resolve => {
  message.id = lab.calls.size + 1
  lab.calls.set(message.id, resolve)
  lab.worker.postMessage(message, transfer)
})

// Starts a worker with a model, and takes the weights out of the page's memory. Null if another model was wanted in the meantime.
lab.load = async name => {
  const mine = lab.wanted = Symbol(name)
  if (!lab.weights[name]) await lab.script(name)
  if (lab.wanted !== mine) return null
  const { data, ...weights } = lab.weights[name], text = atob(data), bytes = new Uint8Array(text.length)
  delete lab.weights[name]
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i)
  lab.worker?.terminate()
  lab.worker = new Worker(URL.createObjectURL(new Blob([`(${mae})()`], { type: 'text/javascript' })))
  lab.worker.onmessage = ({ data }) => (data.progress ? lab.progress?.(data.progress) : lab.calls.get(data.id)(data))
  await lab.call({ load: { ...weights, buffer: bytes.buffer } }, [bytes.buffer])
  return weights
}

// A picture `height width channels` of 0 … 255 and the hidden patches → the predictions `m × values` for them, normalised.
lab.reconstruct = (picture, hidden, { size, mean, std }) => {
  const normalised = Float32Array.from(picture, (value, i) => (value / 255 - mean[i % size.channels]) / std[i % size.channels])
  const order = [...hidden.keys()], keep = order.filter(i => !hidden[i]), masked = order.filter(i => hidden[i])
  return lab.call({ run: { patches: patchify(normalised, size), keep, masked } }).then(result => ({ ...result, keep, masked }))
}

lab.page = root => {
  const find = name => root.querySelector(`[data-lab="${name}"]`), all = name => [...root.querySelectorAll(`[data-lab="${name}"]`)]
  const HIDDEN = 'rgb(158, 168, 189)', SIDE = 512  // the package's grey-blue; canvases in pixels
  let name, size, weights, picture, hidden, cursor = 0, chosen = null, result = null, busy = false, wanted = false, brush = null

  const say = text => { find('status').textContent = text }
  const place = i => `row ${Math.floor(i / size.grid[1]) + 1}, column ${(i % size.grid[1]) + 1}`
  const attending = () => root.querySelector('[name="lab-mode"]:checked').value === 'attention'

  // ---- drawing
  function pixels(values) {  // `height width channels` of 0 … 255 → a canvas of the model's size
    const [height, width] = size.image, canvas = new OffscreenCanvas(width, height), data = new ImageData(width, height), c = size.channels
    for (let i = 0; i < height * width; i++) {
      for (let channel = 0; channel < 3; channel++) data.data[4 * i + channel] = values[c * i + (channel % c)]
      data.data[4 * i + 3] = 255
    }
    canvas.getContext('2d').putImageData(data, 0, 0)
    return canvas
  }

  function show(canvas, values) {
    const context = canvas.getContext('2d')
    context.imageSmoothingQuality = 'high'
    context.drawImage(pixels(values), 0, 0, SIDE, SIDE)
    return context
  }

  function squares(context, colours) {  // one colour for each patch, or nothing
    const [h, w] = size.grid, at = (i, length) => Math.round(i * SIDE / length)
    colours.forEach((colour, i) => {
      if (!colour) return
      const row = Math.floor(i / w), column = i % w
      context.fillStyle = colour
      context.fillRect(at(column, w), at(row, h), at(column + 1, w) - at(column, w), at(row + 1, h) - at(row, h))
    })
  }

  function frame(context, i, colour) {
    const [h, w] = size.grid
    context.lineWidth = 4
    context.strokeStyle = colour
    context.strokeRect((i % w) * SIDE / w + 1, Math.floor(i / w) * SIDE / h + 1, SIDE / w - 2, SIDE / h - 2)
  }

  function draw() {
    if (!picture) return
    show(find('original'), picture)
    const context = show(find('masked'), picture)
    squares(context, Array.from(hidden, one => one && HIDDEN))
    if (chosen?.heat) {
      context.fillStyle = 'rgba(0, 0, 0, 0.5)'
      context.fillRect(0, 0, SIDE, SIDE)
      squares(context, chosen.heat.map(value => value && `rgba(255, 140, 0, ${value})`))
    }
    if (chosen) frame(context, chosen.patch, '#fff')
    if (document.activeElement === find('masked') && find('masked').matches(':focus-visible')) frame(context, cursor, '#f00')
  }

  function drawResult({ predicted, masked }) {
    const patches = patchify(Float32Array.from(picture), size), values = size.values, c = size.channels
    let error = 0
    masked.forEach((patch, i) => {
      for (let j = 0; j < values; j++) {
        const value = 255 * Math.min(Math.max(predicted[i * values + j] * weights.std[j % c] + weights.mean[j % c], 0), 1)
        error += ((value - patches[patch * values + j]) / 255) ** 2 / (masked.length * values)
        patches[patch * values + j] = value
      }
    })
    show(find('reconstruction'), unpatchify(patches, size))
    return error
  }

  // ---- the model
  async function refresh() {
    chosen = attending() ? chosen : null
    draw()
    const visible = hidden.length - hidden.reduce((a, b) => a + b, 0), share = Math.round(100 * (1 - visible / hidden.length))
    find('count').textContent = `${visible} of ${hidden.length} patches visible, ${share} % hidden`
    if (!weights || weights.size !== size) return
    if (busy) return void (wanted = true)
    if (visible === 0 || visible === hidden.length) {
      result = null
      if (visible) show(find('reconstruction'), picture)
      return say(visible ? 'Nothing is hidden: hide some patches.' : 'Everything is hidden: leave at least one patch visible.')
    }
    busy = true
    const of = name, shown = picture
    result = await lab.reconstruct(picture, hidden, weights)
    busy = false
    if (of === name && shown === picture) {
      const error = drawResult(result), seconds = (result.milliseconds / 1000).toFixed(2)
      if (!brush) say(`Reconstructed in ${seconds} s. Mean squared error of the hidden patches: ${error.toFixed(4)} (pixels from 0 to 1).`)
      if (chosen) await attention(chosen.patch)
    }
    find('progress').value = 0
    if (wanted) {
      wanted = false
      refresh()
    }
  }

  async function attention(patch) {
    chosen = { patch }
    draw()
    if (!result || busy) return result || say('Load the model first, and hide some patches.')
    const { keep, masked } = result, order = [...keep, ...masked], select = find('block')
    if (hidden[patch] && select.value < size.depth) select.value = size.depth + size.decoder_depth - 1
    const index = Number(select.value), { map } = await lab.call({ attended: index }), t = Math.sqrt(map.length), outgoing = find('direction').value === 'to'
    if (t < 3) return say('Leave at least two patches visible to compare.')
    const token = 1 + order.indexOf(patch), heat = new Array(hidden.length).fill(0)
    for (let i = 1; i < t; i++) heat[order[i - 1]] = outgoing ? map[token * t + i] : map[i * t + token]
    const shown = order.filter(i => i !== patch && (index >= size.depth || !hidden[i])), least = Math.min(...shown.map(i => heat[i]))
    const top = shown.reduce((best, i) => (heat[i] > heat[best] ? i : best), shown[0])
    chosen.heat = heat.map((value, i) => (shown.includes(i) ? 0.9 * (value - least) / (heat[top] - least || 1) : 0))
    draw()
    const where = index < size.depth ? `encoder block ${index + 1}` : `decoder block ${index - size.depth + 1}`
    const what = outgoing ? `looks most at ${place(top)}` : `is looked at most by ${place(top)}`
    say(`In ${where}, the patch in ${place(patch)} ${what}: ${(100 * heat[top]).toFixed(1)} % of the attention, where an even share is ${(100 / t).toFixed(1)} % (mean of all heads).`)
  }

  async function start() {
    const button = find('start'), asked = name
    button.disabled = true
    say(`Loading ${asked} …`)
    try {
      const loaded = await lab.load(asked)
      if (!loaded || asked !== name) return
      weights = { ...loaded, size }
      button.hidden = true
      busy = false
      refresh()
    } catch (error) {
      button.disabled = false
      say(error.message)
    }
  }

  // ---- pictures
  async function use(source) {  // an image that the browser has decoded: its middle square, at the size of the model
    const across = source.naturalWidth ?? source.width, down = source.naturalHeight ?? source.height
    const side = Math.min(across, down), [height, width] = size.image
    let [x, y, now] = [(across - side) / 2, (down - side) / 2, side]
    while (now > 2 * width) {  // halves, so that every pixel counts
      const half = new OffscreenCanvas(Math.ceil(now / 2), Math.ceil(now / 2))
      half.getContext('2d').drawImage(source, x, y, now, now, 0, 0, half.width, half.height);
      [source, x, y, now] = [half, 0, 0, half.width]
    }
    const context = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true })
    context.imageSmoothingQuality = 'high'
    context.drawImage(source, x, y, now, now, 0, 0, width, height)
    const { data } = context.getImageData(0, 0, width, height), c = size.channels, grey = i => (299 * data[i] + 587 * data[i + 1] + 114 * data[i + 2]) / 1000
    picture = Uint8Array.from({ length: height * width * c }, (_, i) => (c === 1 ? Math.round(grey(4 * i)) : data[4 * Math.floor(i / 3) + (i % 3)]))
    result = null
    refresh()
  }

  async function useFile(file) {
    if (!file) return
    try {
      await use(await createImageBitmap(file))
      all('picture').forEach(button => button.setAttribute('aria-pressed', false))
    } catch {
      say(`This browser cannot read ${file.name} as a picture: choose a JPEG, PNG or WebP file.`)
    }
  }

  async function choose(model) {
    name = model
    weights = lab.wanted = null
    find('start').disabled = false
    say('Load the model to see a reconstruction.')
    if (!lab.pictures[name]) await lab.script('pictures')
    const { size: read, pictures, megabytes } = lab.pictures[name]
    size = read
    hidden = new Uint8Array(size.grid[0] * size.grid[1])
    cursor = 0
    find('start').hidden = false
    find('start').textContent = `Load ${name} (${megabytes} MB)`
    find('progress').max = size.depth + size.decoder_depth
    find('block').replaceChildren(...Array.from({ length: size.depth + size.decoder_depth }, (_, i) =>
      new Option(i < size.depth ? `encoder block ${i + 1}` : `decoder block ${i - size.depth + 1}`, i, false, i === size.depth - 1)))
    find('pictures').replaceChildren(...pictures.map(({ what, png }) => {
      const button = Object.assign(document.createElement('button'), { type: 'button' }), image = Object.assign(new Image(), { src: png, alt: what })
      button.dataset.lab = 'picture'
      button.append(image)
      button.onclick = async () => {
        all('picture').forEach(other => other.setAttribute('aria-pressed', other === button))
        await image.decode()
        use(image)
      }
      return button
    }))
    const context = find('reconstruction').getContext('2d')
    context.clearRect(0, 0, SIDE, SIDE)
    drawMask()
    find('picture').click()
  }

  // ---- masks
  function drawMask() {
    const ratio = find('ratio').value / 100, { masked } = masks[find('sampling').value](Math.max(0, Math.floor(find('seed').value)), size.grid, ratio)
    find('percent').textContent = `${find('ratio').value} %`
    hidden.fill(0)
    masked.forEach(i => { hidden[i] = 1 })
    if (picture && picture.length === size.image[0] * size.image[1] * size.channels) refresh()
  }

  function paint(patch) {
    cursor = patch
    if (hidden[patch] === brush) return
    hidden[patch] = brush
    refresh()
  }

  function under(event) {
    const box = find('masked').getBoundingClientRect(), [h, w] = size.grid, limit = (x, top) => Math.min(Math.max(Math.floor(x), 0), top - 1)
    return limit((event.clientY - box.top) / box.height * h, h) * w + limit((event.clientX - box.left) / box.width * w, w)
  }

  const canvas = find('masked')
  canvas.addEventListener('pointerdown', event => {
    if (event.button !== 0 || !picture) return
    const patch = under(event)
    cursor = patch
    if (attending()) return attention(patch)
    canvas.setPointerCapture(event.pointerId)
    brush = hidden[patch] ? 0 : 1  // a stroke that begins on a hidden patch uncovers
    paint(patch)
  })
  canvas.addEventListener('pointermove', event => {
    if (brush !== null) for (const one of event.getCoalescedEvents?.() ?? [event]) paint(under(one))
  })
  const lift = () => {
    if (brush === null) return
    brush = null
    refresh()
  }
  canvas.addEventListener('pointerup', lift)
  canvas.addEventListener('pointercancel', lift)
  canvas.addEventListener('keydown', event => {
    const [h, w] = size.grid, row = Math.floor(cursor / w), column = cursor % w
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }
    if (moves[event.key]) {
      const [down, right] = moves[event.key]
      cursor = Math.min(Math.max(row + down, 0), h - 1) * w + Math.min(Math.max(column + right, 0), w - 1)
      if (event.shiftKey && !attending()) hidden[cursor] = hidden[row * w + column]
    } else if (event.key === ' ' || event.key === 'Enter') {
      if (!attending()) hidden[cursor] = 1 - hidden[cursor]
    } else return
    event.preventDefault()
    find('cursor').textContent = `${place(cursor)}, ${hidden[cursor] ? 'hidden' : 'visible'}`
    if (attending() && !moves[event.key]) attention(cursor)
    else if (moves[event.key] && !event.shiftKey) draw()
    else refresh()
  })
  canvas.addEventListener('focus', draw)
  canvas.addEventListener('blur', draw)

  // ---- controls
  lab.progress = done => { find('progress').value = done }
  find('model').onchange = event => choose(event.target.value)
  find('start').onclick = start
  find('file').onchange = event => useFile(event.target.files[0])
  for (const control of ['sampling', 'ratio', 'seed']) find(control).oninput = drawMask
  find('again').onclick = () => {
    find('seed').value = Math.floor(Math.random() * 10000)
    drawMask()
  }
  find('clear').onclick = () => { hidden.fill(0); refresh() }
  find('invert').onclick = () => { hidden.forEach((one, i) => { hidden[i] = 1 - one }); refresh() }
  for (const control of ['block', 'direction']) find(control).onchange = () => chosen && attention(chosen.patch)
  for (const mode of root.querySelectorAll('[name="lab-mode"]')) mode.onchange = () => {
    find('looking').hidden = !attending()
    chosen = null
    draw()
    if (attending()) say('Click a patch, or move to one with the arrow keys and press Enter.')
  }
  root.addEventListener('dragover', event => event.preventDefault())
  root.addEventListener('drop', event => {
    event.preventDefault()
    useFile(event.dataTransfer.files[0])
  })
  root.hidden = false
  choose(find('model').value)
}

addEventListener('DOMContentLoaded', () => lab.page(document.querySelector('.lab')))
