/** The weights of one head: how much each token (row) looks at itself and those before it. */
export class Triangle {
  private readonly bytes: Uint8Array;

  /** @param base64 the lower triangle row by row, 255 for 1. */
  constructor(base64: string) {
    this.bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  }

  /** 0 to 1; 0 for what comes later. */
  at(row: number, column: number): number {
    return column > row ? 0 : (this.bytes[(row * (row + 1)) / 2 + column] as number) / 255;
  }
}
