// Makes the pictures of README.md and docs/ from real runs:
//
//   npm start && node scripts/pictures.mjs demo runs/demo     docs/pictures/demo-loss.svg, explain-*.png, report-*.png
//   node scripts/pictures.mjs first RUN                       docs/pictures/first-loss.svg, RUN being that of docs/own-text.md
//
// Needs the package built; the .png ones a Chromium (the variable CHROMIUM, or /usr/bin/chromium).

import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { chromium } from 'playwright-core';
import { explanationPage, GPT2, readMetrics, Tokenizer } from '../dist/index.js';

const FOLDER = 'docs/pictures';
const TEXT = 'Everyone has the right to freedom of thought. すべて人は、生命、自由及び身体の安全に対する権利を有する。';

const SIZE = { width: 640, height: 300 };
const PLOT = { left: 40, right: 92, top: 14, bottom: 34 };
/** Points of the training curve: neighbouring steps are averaged. */
const POINTS = 160;

const STYLE = `
  text { font: 13px system-ui, sans-serif; fill: #66635c; }
  .grid { stroke: #8883; }
  .curve { fill: none; stroke-width: 2; stroke-linejoin: round; }
  .training { stroke: #2f6bed; } .validation { stroke: #e0661b; }
  text.training, text.validation { stroke: none; font-weight: 600; }
  text.training { fill: #2f6bed; } text.validation, circle { fill: #e0661b; }
  @media (prefers-color-scheme: dark) {
    text { fill: #a0a0ad; }
    .training { stroke: #7ea6ff; } .validation { stroke: #ff9a5c; }
    text.training { fill: #7ea6ff; } text.validation, circle { fill: #ff9a5c; }
  }`;

/** The losses of a run: [step, loss], the training's averaged over neighbours. */
async function readLosses(run) {
  const steps = [];
  const validation = [];
  for await (const event of readMetrics(join(run, 'metrics.jsonl'))) {
    if (event.type === 'step') steps.push([event.step, event.loss]);
    if (event.type === 'eval') validation.push([event.step, event.loss]);
  }
  const count = Math.ceil(steps.length / POINTS);
  const training = [];
  for (let first = 0; first < steps.length; first += count) {
    const part = steps.slice(first, first + count);
    const mean = (index) => part.reduce((sum, point) => sum + point[index], 0) / part.length;
    training.push([mean(0), mean(1)]);
  }
  return { training, validation };
}

function lossPicture({ training, validation }) {
  const last = Math.max(training.at(-1)[0], validation.at(-1)[0]);
  const most = Math.ceil(Math.max(...[...training, ...validation].map(([, loss]) => loss)));
  const x = (step) => PLOT.left + (step / last) * (SIZE.width - PLOT.left - PLOT.right);
  const y = (loss) => SIZE.height - PLOT.bottom - (loss / most) * (SIZE.height - PLOT.top - PLOT.bottom);
  const place = ([step, loss]) => `${x(step).toFixed(1)},${y(loss).toFixed(1)}`;
  const curve = (name, points) => `<polyline class="curve ${name}" points="${points.map(place).join(' ')}"/>`;
  // The names stand at the ends of their curves, but not on each other.
  const ends = [y(training.at(-1)[1]), y(validation.at(-1)[1])];
  const apart = Math.max(0, 16 - Math.abs(ends[0] - ends[1])) / 2;
  const label = (name, end, shift) =>
    `<text class="${name}" x="${SIZE.width - PLOT.right + 8}" y="${(end + shift).toFixed(1)}" dy="0.35em">${name}</text>`;
  const losses = Array.from({ length: most + 1 }, (_, loss) => loss).filter((loss) => loss % (most > 8 ? 2 : 1) === 0);
  const steps = [0, 0.25, 0.5, 0.75, 1].map((share) => share * last);
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${SIZE.width} ${SIZE.height}" role="img">`,
    '<title>Training and validation loss in nats per token, by step</title>',
    `<style>${STYLE}\n</style>`,
    ...losses.flatMap((loss) => [
      `<line class="grid" x1="${PLOT.left}" x2="${SIZE.width - PLOT.right}" y1="${y(loss)}" y2="${y(loss)}"/>`,
      `<text x="${PLOT.left - 8}" y="${y(loss)}" dy="0.35em" text-anchor="end">${loss}</text>`,
    ]),
    ...steps.map(
      (step) => `<text x="${x(step)}" y="${SIZE.height - 12}" text-anchor="middle">${Math.round(step)}</text>`,
    ),
    curve('training', training),
    curve('validation', validation),
    ...validation.map((point) => `<circle cx="${x(point[0]).toFixed(1)}" cy="${y(point[1]).toFixed(1)}" r="3"/>`),
    label('training', ends[0], ends[0] < ends[1] ? -apart : apart),
    label('validation', ends[1], ends[0] < ends[1] ? apart : -apart),
    '</svg>\n',
  ].join('\n');
}

/** Takes a picture of a page as a browser shows it, light and dark. */
async function pagePictures(name, open, { height, fullPage }) {
  const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
  const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
  for (const colorScheme of ['light', 'dark']) {
    const page = await browser.newPage({ viewport: { width: 1080, height }, colorScheme });
    await open(page);
    await page.mouse.move(1, 1);
    await page.screenshot({ path: join(FOLDER, `${name}-${colorScheme}.png`), fullPage });
  }
  await browser.close();
}

/** The page of `kotodama explain`. */
async function explainPictures(run) {
  const tokenizer = await Tokenizer.fromPretrained(run);
  const model = await GPT2.fromPretrained(run, { device: 'cpu' });
  const explanation = await model.explain(TEXT, { tokenizer });
  await model.dispose();
  const open = async (page) => {
    await page.setContent(explanationPage(explanation, { model: 'runs/demo' }));
    // The seventh token, after which the thought comes, and a head of the second layer.
    await page.locator('.token').nth(6).click();
    await page.locator('.head').nth(10).click();
  };
  await pagePictures('explain', open, { height: 760, fullPage: true });
}

/** The upper part of the run's report. */
async function reportPictures(run) {
  const open = (page) => page.goto(pathToFileURL(resolve(run, 'report.html')).href);
  await pagePictures('report', open, { height: 820, fullPage: false });
}

const [name, run] = process.argv.slice(2);
writeFileSync(join(FOLDER, `${name}-loss.svg`), lossPicture(await readLosses(run)));
if (name === 'demo') {
  await explainPictures(run);
  await reportPictures(run);
}
