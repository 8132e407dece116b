import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';

export interface HtmlPage {
  title: string;
  /** Drawn in white on the accent colour, 16 by 16: what is inside the `svg` element, after the ground. */
  icon: string;
  /** The folder beside this file with the page's own script and style. */
  assets: 'page' | 'explain-page';
  /** What the script finds in the element `data`. */
  data: unknown;
  /** HTML that a reader without JavaScript sees. */
  noscript: string;
  /** Whether the script may fetch from the page's own server. */
  live: boolean;
}

/**
 * A self-contained page. Its policy lets nothing run but its own script, and nothing be fetched but, when it is live,
 * from its own server: what a text, a model or a file name says stays text.
 */
export function htmlPage({ title, icon, assets, data, noscript, live }: HtmlPage): string {
  const asset = (name: string) => readFileSync(new URL(`./${assets}/${name}`, import.meta.url), 'utf8').trim();
  const script = asset('main.js');
  const style = asset('style.css');
  const policy = [
    `default-src 'none'`,
    `script-src '${hash(script)}'`,
    `style-src '${hash(style)}'`,
    'img-src data:',
    `connect-src ${live ? `'self'` : `'none'`}`,
    `base-uri 'none'`,
    `form-action 'none'`,
  ];
  const ground = `<rect width="16" height="16" rx="4" fill="#2f6bed"/>`;
  const picture = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">${ground}${icon}</svg>`;
  // The one way out of a script element is its end tag.
  const json = JSON.stringify(data).replaceAll('<', '\\u003c');
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy.join('; ')}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>${escapeHtml(title)}</title>
<link rel="icon" href="data:image/svg+xml,${encodeURIComponent(picture)}">
<style>${style}</style>
</head>
<body>
<noscript>${noscript}</noscript>
<script type="application/json" id="data">${json}</script>
<script>${script}</script>
</body>
</html>
`;
}

function hash(content: string): string {
  return `sha256-${createHash('sha256').update(content).digest('base64')}`;
}

/** Text inside HTML: samples and file names are not markup. */
export function escapeHtml(text: string): string {
  const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
  return text.replaceAll(/[&<>"']/g, (character) => entities[character] as string);
}
