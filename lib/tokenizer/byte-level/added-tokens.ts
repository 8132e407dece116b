interface Added {
  bytes: Uint8Array;
  id: number;
}

/** Texts that become one id wherever they stand, such as `<|endoftext|>`. */
export class AddedTokens {
  /** Id and bytes of what {@link find} found. */
  id = 0;
  length = 0;
  /** By first byte, the longest first. */
  private readonly byFirst: (readonly Added[] | undefined)[] = new Array(256).fill(undefined);

  /** @param tokens texts, none empty, with their ids */
  constructor(tokens: readonly (readonly [text: string, id: number])[]) {
    const longestFirst = tokens.map(([text, id]) => ({ bytes: Buffer.from(text), id }));
    longestFirst.sort((a, b) => b.bytes.length - a.bytes.length);
    for (const token of longestFirst) {
      const first = token.bytes[0]!;
      this.byFirst[first] = [...(this.byFirst[first] ?? []), token];
    }
  }

  /**
   * Where in `text[start..end)` the first of them begins, the longest one if there are several; `end` if there is none. What
   * it is stands in {@link id} and {@link length}.
   */
  find(text: Uint8Array, start: number, end: number): number {
    for (let at = start; at < end; at++) {
      const candidates = this.byFirst[text[at]!];
      if (candidates === undefined) continue;
      const found = candidates.find(({ bytes }) => startsWith(text, at, end, bytes));
      if (found === undefined) continue;
      this.id = found.id;
      this.length = found.bytes.length;
      return at;
    }
    return end;
  }
}

function startsWith(text: Uint8Array, start: number, end: number, bytes: Uint8Array): boolean {
  return bytes.length <= end - start && bytes.every((byte, index) => text[start + index] === byte);
}
