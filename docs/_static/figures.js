// Figures of the chapters that move. Each stands below its static twin, which is all that a reader without JavaScript needs.
// conf.py puts an empty <div data-figure="…"> into the page, and this script fills it.

const COLOURS = ['#0072B2', '#D55E00', '#009E73'], GREY = '#B4B8C0', DARK = '#333333'
var lab = { weights: {}, pictures: {} }  // pictures.js fills it

function node(name, attributes = {}, ...children) {  // an element of SVG, or of HTML where SVG has none of that name
  const html = ['div', 'p', 'label', 'input', 'select', 'option', 'button', 'output', 'canvas', 'span', 'code', 'b'].includes(name)
  const element = html ? document.createElement(name) : document.createElementNS('http://www.w3.org/2000/svg', name)
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value)
  element.append(...children)
  return element
}

const mix = (a, b, share) => a + (b - a) * share

// A button that runs a slider from its first value to its last.
function player(slider, step, pause) {
  const button = node('button', { type: 'button' }, 'Play')
  let timer = null
  const stop = () => {
    clearInterval(timer)
    timer = null
    button.textContent = 'Play'
  }
  const set = value => {
    slider.value = value
    slider.dispatchEvent(new Event('input'))
  }
  button.onclick = () => {
    if (timer) return stop()
    if (Number(slider.value) >= Number(slider.max)) set(slider.min)
    button.textContent = 'Stop'
    timer = setInterval(() => {
      set(Number(slider.value) + step)
      if (Number(slider.value) >= Number(slider.max)) stop()
    }, pause)
  }
  slider.addEventListener('pointerdown', stop)
  slider.addEventListener('keydown', stop)
  return button
}

const figures = {
  // Chapter 01: the einops string as a moving grid; 3 × 4 pieces of 16 pixels of the cat.
  grid(root) {
    const H = 3, W = 4, SIDE = 52, STEP = 60, photo = lab.pictures['photos-tiny'].pictures[0].png
    const svg = node('svg', { viewBox: '-4 -4 722 224', role: 'group', 'aria-label': 'Twelve pieces of a photograph, on their way from the picture to a row' })
    const slider = node('input', { type: 'range', min: 0, max: 4, step: 0.05, value: 0, 'aria-label': 'Moment' })
    const order = node('select', {}, node('option', {}, '(h w)'), node('option', {}, '(w h)'))
    const string = node('p', { class: 'figure-string' }), told = node('p', { role: 'status' }, 'Click a piece to see its number.')
    const pieces = Array.from({ length: H * W }, (_, i) => {
      const h = Math.floor(i / W), w = i % W
      const picture = node('image', { href: photo, width: 64, height: 64, style: 'image-rendering: pixelated' })
      const frame = node('rect', { width: SIDE, height: SIDE, fill: 'none', stroke: COLOURS[h], 'stroke-width': 3 })
      const number = node('text', { x: SIDE / 2, y: SIDE + 23, 'text-anchor': 'middle', fill: COLOURS[h], 'font-size': 22 })
      const view = node('svg', { width: SIDE, height: SIDE, viewBox: `${16 * w} ${16 * h + 8} 16 16`, preserveAspectRatio: 'none' }, picture)
      const piece = node('g', { style: 'cursor: pointer', tabindex: 0, role: 'button' }, view, frame, number)
      piece.onclick = () => {
        const [sum, at] = order.value === '(h w)' ? [`h · ${W} + w = ${h} · ${W} + ${w}`, h * W + w] : [`w · ${H} + h = ${w} · ${H} + ${h}`, w * H + h]
        told.textContent = `h = ${h}, w = ${w}; in ${order.value} this piece has the number ${sum} = ${at}.`
      }
      piece.onkeydown = event => {
        if (event.key !== 'Enter' && event.key !== ' ') return
        event.preventDefault()
        piece.onclick()
      }
      svg.append(piece)
      return { h, w, piece, frame, number }
    })
    function draw() {
      const moment = Number(slider.value), from = Math.min(Math.floor(moment), 3), share = moment - from, rows = order.value === '(h w)'
      const middle = (12 * STEP - W * STEP) / 2
      for (const { h, w, piece, frame, number } of pieces) {
        const at = rows ? h * W + w : w * H + h
        const places = [[middle + w * SIDE, h * SIDE], [middle + w * SIDE, h * 72], [middle + w * STEP, h * 72], [at * STEP, h * 72], [at * STEP, 72]]
        const [a, b] = [places[from], places[from + 1]]
        piece.setAttribute('transform', `translate(${mix(a[0], b[0], share)}, ${mix(a[1], b[1], share)})`)
        frame.setAttribute('stroke-opacity', Math.min(1, moment))
        number.textContent = moment > 3.9 ? at : ''
        piece.setAttribute('aria-label', `${number.textContent} row ${h}, column ${w}`.trim())
      }
      const active = ['', '(h p1)', '(w p2)', order.value, order.value][Math.ceil(moment)]
      const parts = ['b c ', '(h p1)', ' ', '(w p2)', ' -> b ', order.value, ' (p1 p2 c)']
      string.replaceChildren(...parts.map(part => (part === active ? node('b', {}, part) : part)))
    }
    slider.oninput = order.onchange = draw
    const controls = node('div', { class: 'figure-bar' }, player(slider, 0.05, 50), node('label', {}, 'Moment ', slider), node('label', {}, 'Order ', order))
    root.append(string, svg, controls, told)
    draw()
  },

  // Chapter 02: the shuffle as crossing lines; the noise and the number of kept patches can be changed.
  shuffle(root) {
    const N = 6, X = i => 60 + 80 * i, ROWS = [30, 150, 270], noise = [0.35, 0.2, 0.81, 0.94, 0.08, 0.57]
    const svg = node('svg', { viewBox: '0 0 520 300', role: 'img', 'aria-label': 'Three rows of six patches, and lines that follow each from row to row' })
    const keep = node('input', { type: 'range', min: 1, max: N - 1, value: 2 }), told = node('p', { role: 'status' })
    const sliders = noise.map((value, i) => node('input', { type: 'range', min: 0, max: 0.99, step: 0.01, value, 'aria-label': `Noise of patch ${i}` }))
    const fresh = node('button', { type: 'button' }, 'New noise'), rank = list => list.map((_, i) => i).sort((a, b) => list[a] - list[b] || a - b)
    const outputs = sliders.map(() => node('output'))

    function draw() {
      const values = sliders.map(slider => Number(slider.value)), k = Number(keep.value), order = rank(values), restore = rank(order)
      svg.replaceChildren()
      const line = (x1, y1, x2, y2, kept) => svg.append(node('line', { x1, y1, x2, y2, stroke: kept ? COLOURS[0] : GREY, 'stroke-width': kept ? 4 : 2 }))
      const box = (x, y, text, kept) => svg.append(
        node('rect', { x: x - 22, y: y - 22, width: 44, height: 44, fill: kept ? '#CFE3F1' : '#F1F2F5', stroke: kept ? COLOURS[0] : '#888', 'stroke-width': 3 }),
        node('text', { x, y: y + 6, 'text-anchor': 'middle', 'font-size': 18, fill: DARK }, text))
      restore.forEach((place, patch) => {
        line(X(patch), ROWS[0] + 24, X(place), ROWS[1] - 24, place < k)
        line(X(place), ROWS[1] + 24, X(patch), ROWS[2] - 24, place < k)
      })
      for (let i = 0; i < N; i++) {
        box(X(i), ROWS[0], i, restore[i] < k)
        box(X(i), ROWS[1], order[i], i < k)
        box(X(i), ROWS[2], i, restore[i] < k)
        outputs[i].textContent = values[i].toFixed(2)
      }
      svg.append(node('line', { x1: X(k) - 40, x2: X(k) - 40, y1: ROWS[1] - 36, y2: ROWS[1] + 36, stroke: DARK, 'stroke-width': 2, 'stroke-dasharray': '6 4' }))
      told.textContent = `keep: ${order.slice(0, k).join(', ')}; masked: ${order.slice(k).join(', ')}; restore: ${restore.join(', ')}`
    }
    fresh.onclick = () => {
      for (const slider of sliders) slider.value = Math.random()
      draw()
    }
    for (const input of [keep, ...sliders]) input.oninput = draw
    const columns = sliders.map((slider, i) => node('label', {}, outputs[i], slider))
    root.append(node('div', { class: 'figure-noise' }, ...columns), svg, node('div', { class: 'figure-bar' }, fresh, node('label', {}, 'Kept patches ', keep)), told)
    draw()
  },

  // Chapter 00: the mask grows over a photograph; the reconstructions were computed when the site was built.
  growing(root) {
    const { ratios, counts, order, original, reconstructions, errors } = lab.pictures.growing, SIDE = 320, GRID = Math.sqrt(order.length), CELL = SIDE / GRID
    const slider = node('input', { type: 'range', min: 0, max: ratios.length - 1, value: ratios.indexOf(0.75), 'aria-label': 'Share of hidden patches' })
    const panels = ['What the model sees', 'Reconstruction'].map(text => {
      const svg = node('svg', { viewBox: `0 0 ${SIDE} ${SIDE}`, role: 'img', 'aria-label': text })
      return { svg, panel: node('div', {}, svg, node('span', {}, text)) }
    })
    const told = node('p', { role: 'status' }), picture = href => node('image', { href, width: SIDE, height: SIDE })
    slider.oninput = () => {
      const i = Number(slider.value), hidden = order.slice(order.length - counts[i])
      panels[0].svg.replaceChildren(picture(original), ...hidden.map(patch => node('rect', {
        x: (patch % GRID) * CELL, y: Math.floor(patch / GRID) * CELL, width: CELL + 0.5, height: CELL + 0.5, fill: 'rgb(158, 168, 189)', 'shape-rendering': 'crispEdges' })))
      panels[1].svg.replaceChildren(picture(reconstructions[i]))
      told.textContent = `${hidden.length} of ${order.length} patches hidden (${Math.round(100 * ratios[i])} %). Mean squared error of the hidden patches: ${errors[i].toFixed(4)}.`
    }
    const title = node('p', {}, 'The same with a photograph in colour, by photos-tiny in plain pixels: nothing comes from the hidden patches.')
    root.append(title, node('div', { class: 'figure-pair' }, ...panels.map(({ panel }) => panel)),
      node('div', { class: 'figure-bar' }, player(slider, 1, 600), node('label', {}, 'Hidden ', slider)), told)
    slider.oninput()
  },
}

// `pictures.js` (50 kB) is loaded only where a figure shows a photograph.
for (const root of document.querySelectorAll('[data-figure]')) {
  const draw = () => figures[root.dataset.figure](root)
  if (!root.dataset.pictures) draw()
  else document.head.append(Object.assign(document.createElement('script'), { src: root.dataset.pictures, onload: draw }))
}
