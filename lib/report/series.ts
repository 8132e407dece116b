/** More points than a chart has pixels only cost memory. */
const MAX_POINTS = 1600;

/** A curve of any length in constant memory: neighbours are averaged as it grows. */
export class Series {
  /** [x, y], x ascending: each the mean of `stride` values, at the x of the last one. */
  readonly points: [number, number][] = [];
  private stride = 1;
  private sum = 0;
  private count = 0;

  add(x: number, y: number): void {
    this.sum += y;
    this.count++;
    if (this.count < this.stride) return;
    this.points.push([x, this.sum / this.count]);
    this.sum = 0;
    this.count = 0;
    if (this.points.length === MAX_POINTS) this.halve();
  }

  private halve(): void {
    const points = this.points.splice(0);
    for (let index = 1; index < points.length; index += 2) {
      const [before, after] = [points[index - 1], points[index]] as [[number, number], [number, number]];
      this.points.push([after[0], (before[1] + after[1]) / 2]);
    }
    this.stride *= 2;
  }
}
