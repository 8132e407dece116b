import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Explanation, HeadAttention } from '../model/explain.js';
import type { ExplanationData, PageHead } from './explanation-data.js';
import { escapeHtml } from './report.js';

/** How an explanation is shown. */
export interface ExplanationPageOptions {
  /** The name of the model, for the title [model]. */
  model?: string;
}

/** Digits of the numbers in the page. */
const DIGITS = 5;

/** A token on three shades. */
const ICON =
  'data:image/svg+xml,%3Csvg xmlns=%22http://www.w3.org/2000/svg%22 viewBox=%220 0 16 16%22%3E%3Crect width=%2216%22 ' +
  'height=%2216%22 rx=%224%22 fill=%22%232f6bed%22/%3E%3Cpath d=%22M3 8h2.5M6.8 8h2.5M10.6 8h2.5%22 ' +
  'stroke=%22white%22 stroke-width=%225%22/%3E%3C/svg%3E';

/**
 * An explanation as one self-contained HTML page: the text coloured by loss, what the model expects after each token, and
 * what its heads attend to. It needs nothing from elsewhere, and its policy lets nothing run but its own script: what a
 * text says stays text.
 */
export function explanationPage(explanation: Explanation, options: ExplanationPageOptions = {}): string {
  const data = pageData(explanation, options.model ?? 'model');
  const script = asset('main.js');
  const style = asset('style.css');
  const policy = [
    `default-src 'none'`,
    `script-src '${hash(script)}'`,
    `style-src '${hash(style)}'`,
    'img-src data:',
    `base-uri 'none'`,
    `form-action 'none'`,
  ];
  // The one way out of a script element is its end tag.
  const json = JSON.stringify(data).replaceAll('<', '\\u003c');
  const text = data.tokens.map((token) => token.text).join('');
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="${policy.join('; ')}">
<meta name="referrer" content="no-referrer">
<title>${escapeHtml(data.model)} explained</title>
<link rel="icon" href="${ICON}">
<style>${style}</style>
</head>
<body>
<noscript><p>The colours of this page need JavaScript. The text:</p><pre>${escapeHtml(text)}</pre></noscript>
<script type="application/json" id="data">${json}</script>
<script>${script}</script>
</body>
</html>
`;
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
  const bytes = Uint8Array.from(weights, (weight) => Math.round(weight * 255));
  return { layer, head, weights: Buffer.from(bytes.buffer).toString('base64') };
}

function rounded<T extends number | null>(value: T): T {
  return (value === null ? null : Number(value.toPrecision(DIGITS))) as T;
}

/** A part of the page that was built beside this file. */
function asset(name: string): string {
  return readFileSync(new URL(`./explain-page/${name}`, import.meta.url), 'utf8').trim();
}

function hash(content: string): string {
  return `sha256-${createHash('sha256').update(content).digest('base64')}`;
}
