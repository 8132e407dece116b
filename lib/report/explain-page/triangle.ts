import { LARGEST_WEIGHT } from '../explanation-data.js';

/** The weights of one head: how much each token (row) looks at itself and those before it. */
export class Triangle {
  private readonly bytes: Uint8Array;

  /** @param base64 the lower triangle row by row, as a page has it. */
  constructor(base64: string) {
    this.bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  }

  /** 0 to 1; 0 for what comes later. */
  at(row: number, column: number): number {
    if (column > row) return 0;
    const place = row * (row + 1) + 2 * column;
    return (((this.bytes[place] as number) + 256 * (this.bytes[place + 1] as number)) / LARGEST_WEIGHT) ** 2;
  }
}
