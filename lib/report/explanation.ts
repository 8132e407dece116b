import type { Explanation, HeadAttention } from '../model/explain.js';
import { checkArgument, OptionReader } from '../validate.js';
import { type ExplanationData, LARGEST_WEIGHT, type PageHead } from './explanation-data.js';
import { escapeHtml, htmlPage } from './html-page.js';

/** How an explanation is shown. */
export interface ExplanationPageOptions {
  /** The name of the model, for the title [model]. */
  model?: string | undefined;
}

/** Digits of the numbers in the page. */
const DIGITS = 5;

/** A token on three shades. */
const ICON = '<path d="M3 8h2.5M6.8 8h2.5M10.6 8h2.5" stroke="white" stroke-width="5"/>';

/**
 * An explanation as one self-contained HTML page: the text coloured by loss, what the model expects after each token, and
 * what its heads attend to. It needs nothing from elsewhere, and its policy lets nothing run but its own script: what a
 * text says stays text.
 *
 * @param explanation what `model.explain` gives
 * @throws KotodamaError `ERR_OPTIONS` when it is none
 */
export function explanationPage(explanation: Explanation, options: ExplanationPageOptions = {}): string {
  const { tokens, attention } = (explanation ?? {}) as Partial<Explanation>;
  const isWhole = Array.isArray(tokens) && Array.isArray(attention);
  checkArgument(isWhole, 'the explanation', 'what await model.explain(text, { tokenizer }) gives', explanation);
  const reader = new OptionReader(options);
  reader.onlyKnown(['model']);
  const model = reader.string('model', 'model');
  reader.finish('The page cannot be made so');
  const data = pageData(explanation, model);
  const text = data.tokens.map((token) => token.text).join('');
  return htmlPage({
    title: `${data.model} explained`,
    icon: ICON,
    assets: 'explain-page',
    data,
    noscript: `<p>The colours of this page need JavaScript. The text:</p><pre>${escapeHtml(text)}</pre>`,
    live: false,
  });
}

function pageData({ tokens, loss, guessLoss, attention }: Explanation, model: string): ExplanationData {
  return {
    model,
    loss: rounded(loss),
    guessLoss,
    tokens: tokens.map((token) => ({
      ...token,
      loss: rounded(token.loss),
      probability: rounded(token.probability),
      next: token.next.map(({ id, text, probability }) => [id, text, rounded(probability)]),
    })),
    heads: attention.map(pageHead),
  };
}

function pageHead({ layer, head, weights }: HeadAttention): PageHead {
  const bytes = Buffer.alloc(2 * weights.length);
  for (const [index, weight] of weights.entries()) {
    // Rounding may leave a weight a little above 1.
    bytes.writeUInt16LE(Math.round(LARGEST_WEIGHT * Math.sqrt(Math.min(1, weight))), 2 * index);
  }
  return { layer, head, weights: bytes.toString('base64') };
}

function rounded<T extends number | null>(value: T): T {
  return (value === null ? null : Number(value.toPrecision(DIGITS))) as T;
}
