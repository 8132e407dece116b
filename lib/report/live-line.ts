/** Where progress is written: a terminal or anything else that takes text, such as `process.stderr`. */
export interface ProgressStream {
  /** Writes some text. */
  write(text: string): unknown;
  /** Whether it is a terminal. */
  isTTY?: boolean | undefined;
  /** Width of the terminal. */
  columns?: number | undefined;
}

/** Milliseconds that some work may take before it is worth a word, and between two looks at the clock. */
const PATIENCE = 300;
const TICK = 1000;

/** What takes two columns of a terminal: letters of East Asia, and most emoji. */
const WIDE = /[\p{scx=Han}\p{scx=Hira}\p{scx=Kana}\p{scx=Hang}\uff01-\uff60\p{Emoji_Presentation}]/u;

/**
 * The last line of a terminal, rewritten again and again, with lasting lines scrolling away above it. On anything else
 * than a terminal only the lasting ones are written.
 */
export class LiveLine {
  /** Whether lines can be rewritten. */
  readonly terminal: boolean;
  private readonly colour: boolean;
  private shown = false;
  private work: { text: string; begun: number; timer: NodeJS.Timeout } | undefined;

  /** @param colour [only on a terminal and without NO_COLOR (no-color.org)]. */
  constructor(
    private readonly stream: ProgressStream,
    colour?: boolean,
  ) {
    this.terminal = stream.isTTY === true && process.env.TERM !== 'dumb';
    this.colour = colour ?? (this.terminal && !process.env.NO_COLOR);
  }

  /** Columns to write in; the last column stays free, since some terminals wrap after it. */
  get width(): number {
    return Math.max(1, (this.stream.columns || 80) - 1);
  }

  /** As much of a text as fits. */
  fitted(text: string): string {
    let columns = 0;
    let end = 0;
    for (const character of text) {
      columns += WIDE.test(character) ? 2 : 1;
      if (columns > this.width) break;
      end += character.length;
    }
    return text.slice(0, end);
  }

  /** A text in a style of ECMA-48 (SGR), where colours are wanted. */
  tint(style: string, text: string): string {
    return this.colour ? `\x1b[${style}m${text}\x1b[0m` : text;
  }

  /** Replaces the live line by a text that fits. */
  live(text: string): void {
    this.stopWork();
    this.write(text);
  }

  /** Says in the live line what is done, and, once it takes longer, for how long. */
  working(text: string): void {
    if (!this.terminal) return;
    if (this.work !== undefined) {
      this.work.text = text;
      return;
    }
    const tick = () => {
      const { work } = this;
      if (work === undefined) return;
      const seconds = Math.floor((performance.now() - work.begun) / 1000);
      this.write(this.fitted(`${work.text}${seconds < 1 ? '' : `  ${seconds}s`}`));
      work.timer = setTimeout(tick, TICK).unref();
    };
    this.work = { text, begun: performance.now(), timer: setTimeout(tick, PATIENCE).unref() };
  }

  /** Writes lines that stay. */
  lasting(text: string): void {
    this.stopWork();
    this.stream.write(`${this.shown ? '\r\x1b[2K' : ''}${text}\n`);
    this.shown = false;
  }

  /** Removes the live line. */
  clear(): void {
    this.stopWork();
    if (this.shown) this.stream.write('\r\x1b[2K');
    this.shown = false;
  }

  /** Leaves the live line, so that other text can follow. */
  end(): void {
    this.stopWork();
    if (this.shown) this.stream.write('\n');
    this.shown = false;
  }

  private write(text: string): void {
    this.shown = true;
    this.stream.write(`\r\x1b[2K${text}`);
  }

  private stopWork(): void {
    clearTimeout(this.work?.timer);
    this.work = undefined;
  }
}
