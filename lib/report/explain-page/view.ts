import type { ExplanationData } from '../explanation-data.js';
import { Triangle } from './triangle.js';

/** What the parts of the page show together: the data, one token and one head. */
export class View {
  /** The token whose details are shown: the chosen one, or the one under the pointer. */
  token: number;
  /** The token that the reader chose. */
  chosen: number;
  /** Index into the heads. */
  head = 0;
  private readonly listeners: (() => void)[] = [];
  private readonly triangles = new Map<number, Triangle>();

  constructor(readonly data: ExplanationData) {
    // From the last token on, all of the text is seen.
    this.chosen = data.tokens.length - 1;
    this.token = this.chosen;
  }

  /** Number of tokens that the model knows. */
  get vocabulary(): number {
    return Math.round(Math.exp(this.data.guessLoss));
  }

  /** What a head attends to; of the head that is shown when none is given. */
  weights(head = this.head): Triangle {
    const known = this.triangles.get(head);
    if (known !== undefined) return known;
    const triangle = new Triangle(this.data.heads[head]?.weights ?? '');
    this.triangles.set(head, triangle);
    return triangle;
  }

  onChange(listener: () => void): void {
    this.listeners.push(listener);
  }

  choose(token: number): void {
    this.chosen = token;
    this.show(token);
  }

  /** Shows a token for a while, or again the chosen one. */
  show(token = this.chosen): void {
    if (token === this.token) return;
    this.token = token;
    this.changed();
  }

  chooseHead(head: number): void {
    this.head = head;
    this.changed();
  }

  changed(): void {
    for (const listener of this.listeners) listener();
  }
}
