import type { Triangle } from './triangle.js';

/**
 * Paints the weights of a head, a row for each token and a column for each token it looks at, with at most `most` pixels a
 * side; a pixel that stands for several weights has the largest. The square root makes small weights visible.
 */
export function paint(canvas: HTMLCanvasElement, weights: Triangle, tokens: number, most: number): void {
  const side = Math.min(tokens, most);
  canvas.width = side;
  canvas.height = side;
  const context = canvas.getContext('2d');
  if (context === null) return;
  const image = context.createImageData(side, side);
  const [red, green, blue] = colour();
  const largest = new Float32Array(side * side);
  const cell = (index: number) => Math.floor((index * side) / tokens);
  for (let row = 0; row < tokens; row++) {
    for (let column = 0; column <= row; column++) {
      const pixel = cell(row) * side + cell(column);
      largest[pixel] = Math.max(largest[pixel] as number, weights.at(row, column));
    }
  }
  for (let pixel = 0; pixel < side * side; pixel++) {
    image.data.set([red, green, blue, Math.round(255 * Math.sqrt(largest[pixel] as number))], 4 * pixel);
  }
  context.putImageData(image, 0, 0);
}

/** The colour of looking, of the light or the dark scheme. */
function colour(): [number, number, number] {
  const hex = getComputedStyle(document.documentElement).getPropertyValue('--look').trim();
  const at = (index: number) => Number.parseInt(hex.slice(index, index + 2), 16);
  return [at(1), at(3), at(5)];
}
