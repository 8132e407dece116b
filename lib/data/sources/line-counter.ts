/** Knows which lines of a place were read, so that a bad one can be named. */
export class LineCounter {
  private readonly name: string;
  private readonly countBefore: () => Promise<number>;
  /** Lines before the first one that is read; undefined until someone must know. */
  private before: number | undefined;
  private read = 0;

  /**
   * @param before number of lines before the first one that is read, where it is known
   * @param countBefore counts them otherwise
   */
  constructor(name: string, before: number | undefined, countBefore: () => Promise<number>) {
    this.name = name;
    this.before = before;
    this.countBefore = countBefore;
  }

  /** Names a line by its index after those that were read. */
  async nameOf(index: number): Promise<string> {
    this.before ??= await this.countBefore();
    return `${this.name}, line ${this.before + this.read + index + 1},`;
  }

  /** Notes that some more lines were read. */
  advance(lines: number): void {
    this.read += lines;
  }
}
