import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import t from 'tap';
import { reportPage } from '../../dist/report/report.js';
import { RunRecord } from '../../dist/report/run-record.js';
import { checkpointEvent, endEvent, evalEvent, sampleEvent, startEvent, stepEvent } from '../unit/helpers/events.js';
import { drawn, HOSTILE, hacked, launchFor, open } from './pages.js';

function run(level: number, out = 'runs/a'): RunRecord {
  const record = new RunRecord();
  record.add(startEvent(0, { out, configuration: { training: { lr: level }, model: { nLayer: 2 } } }));
  for (let step = 1; step <= 200; step++) {
    record.add(stepEvent(step, { loss: level + 100 / step, stepSeconds: 2, tokensPerSecond: 3072 }));
    if (step % 50 === 0) record.add(evalEvent(step, level + 1));
    if (step % 20 === 0) record.add(sampleEvent(step, `sample of ${step}`, 'so '));
  }
  record.add(checkpointEvent(200));
  record.add(endEvent(200));
  return record;
}

function file(t: { testdir(): string }, runs: { name: string; record: RunRecord }[]): string {
  const path = join(t.testdir(), 'report.html');
  writeFileSync(path, reportPage(runs));
  return pathToFileURL(path).href;
}

t.test('a report opens from a file, and needs nothing else', async (t) => {
  const browser = await launchFor(t);
  if (browser === undefined) return;
  const { page, faults } = await open(browser, file(t, [{ name: 'runs/a', record: run(3) }]));
  t.equal(await page.title(), `${(run(3).now.smoothedLoss as number).toFixed(3)} · runs/a`);
  t.equal(await page.locator('.status').textContent(), 'completed');
  t.same(await page.locator('figure h3').allTextContents(), [
    ...['Loss nats per token', 'Gradient norm before clipping', 'Learning rate', 'Throughput tokens per second'],
    'Time of a step milliseconds',
  ]);
  t.equal(await page.locator('fieldset').count(), 0, 'nothing to steer');
  t.match(await page.locator('main').textContent(), /forward and backward 49 % 3m 20s/);
  t.equal(await page.locator('.samples article').count(), 6);
  await page.getByRole('button', { name: 'Show all 10' }).click();
  await drawn(page);
  t.equal(await page.locator('.samples article').count(), 10);
  t.match(await page.locator('.samples article').last().textContent(), 'step 200so sample of 200');
  t.same(faults, { errors: [], foreign: [] });
});

t.test('numbers as people write them, and a model that wrote nothing', async (t) => {
  const browser = await launchFor(t);
  if (browser === undefined) return;
  const record = new RunRecord();
  const training = { lr: 6e-4, minLr: 6e-4 / 10, eps: 1e-8, betas: [0.9, 0.1 + 0.2], maxSteps: 20_000 };
  record.add(startEvent(0, { configuration: { training } }));
  record.add(stepEvent(1));
  record.add(sampleEvent(1, ''));
  record.add(sampleEvent(2, '', 'so'));
  const { page } = await open(browser, file(t, [{ name: 'a', record }]));
  const facts = page.locator('.card', { hasText: 'minLr' }).locator('tbody tr');
  t.same(await facts.allTextContents(), ['lr0.0006', 'minLr0.00006', 'eps1e-8', 'betas0.9, 0.3', 'maxSteps20000']);
  t.same(await page.locator('.samples article').allTextContents(), [
    'step 1the model added nothing',
    'step 2sothe model added nothing',
  ]);
});

t.test('zoom, logarithmic axis, smoothing and the x axis', async (t) => {
  const browser = await launchFor(t);
  if (browser === undefined) return;
  const { page } = await open(browser, file(t, [{ name: 'runs/a', record: run(3) }]));
  const chart = page.locator('figure').first();
  const plot = chart.locator('.plot');
  const ticks = async (anchor: string) => chart.locator(`text[text-anchor=${anchor}]`).allTextContents();
  t.same((await ticks('end')).map(Number), [0, 20, 40, 60, 80, 100]);
  await chart.getByRole('button', { name: 'log' }).click();
  await drawn(page);
  t.same((await ticks('end')).map(Number), [5, 10, 20, 50, 100]);
  await chart.getByRole('button', { name: 'log' }).click();
  await drawn(page);

  const all = await ticks('middle');
  t.same(all.at(-1), '200');
  const box = (await plot.boundingBox()) as { x: number; y: number; width: number };
  const at = (share: number) => [box.x + 54 + share * (box.width - 68), box.y + 60] as const;
  await page.mouse.move(...at(0.5));
  await page.mouse.down();
  await page.mouse.move(...at(0.75), { steps: 4 });
  await drawn(page);
  t.equal(await chart.locator('.selection').count(), 1);
  await page.mouse.up();
  await page.waitForFunction(() => document.querySelector('figure text[text-anchor=middle]')?.textContent === '105');
  t.same(await ticks('middle'), ['105', '110', '115', '120', '125', '130', '135', '140', '145', '150']);
  t.ok(
    (await ticks('end')).map(Number).every((tick) => tick < 5),
    'the y axis follows',
  );
  t.not(
    await page.locator('figure').nth(1).locator('text[text-anchor=middle]').first().textContent(),
    '50',
    'all charts',
  );
  await page.getByRole('button', { name: 'Show all', exact: true }).click();
  await page.waitForFunction(() => document.querySelector('figure text[text-anchor=middle]')?.textContent !== '105');
  t.same(await ticks('middle'), all);

  await page.mouse.move(...at(0.5));
  await drawn(page);
  t.match(await chart.locator('.tip').textContent(), /^step 101training/);
  t.equal(await page.locator('line.cursor').count(), 5, 'in every chart');

  t.equal(await chart.locator('path[opacity="0.28"]').count(), 1, 'the values before smoothing');
  await page.getByLabel('smoothing').fill('0');
  await page.waitForFunction(() => document.querySelectorAll('figure path[opacity="0.28"]').length === 0);
  await page.mouse.move(...at(0));
  await drawn(page);
  t.match(await chart.locator('.tip').textContent(), 'step 1training103');

  await page.getByLabel('along').selectOption('seconds');
  await page.waitForFunction(() =>
    /m|s$/.test(document.querySelector('figure text[text-anchor=middle]')?.textContent ?? ''),
  );
  await page.getByLabel('along').selectOption('tokens');
  await page.waitForFunction(() => document.querySelector('figure text[text-anchor=middle]')?.textContent === '200k');
});

t.test('keyboard and screen reader', async (t) => {
  const browser = await launchFor(t);
  if (browser === undefined) return;
  const { page } = await open(browser, file(t, [{ name: 'runs/a', record: run(3) }]));
  const plot = page.getByRole('group', { name: /^Loss: chart/ });
  await plot.focus();
  for (const key of ['Home', 'ArrowRight', 'ArrowRight']) await page.keyboard.press(key);
  await drawn(page);
  const spoken = page.locator('figure').first().locator('[aria-live=polite]');
  t.match(await spoken.textContent(), /^step 9: training \d+\.\d+, validation 4$/);
  await page.keyboard.press('+');
  await page.waitForFunction(() => !document.querySelector<HTMLButtonElement>('.toolbar button')?.disabled);
  await page.keyboard.press('Escape');
  await page.waitForFunction(() => document.querySelector<HTMLButtonElement>('.toolbar button')?.disabled);
  const picture = page.getByRole('img', {
    name: /^Loss\. training: .* at 1, .* at 200; validation: 4 at 50, 4 at 200\.$/,
  });
  t.equal(await picture.count(), 1);
  const unnamed = await page.evaluate(() =>
    [...document.querySelectorAll('button, input, select')]
      .filter((element) => element.textContent === '' && !(element as HTMLInputElement).labels?.length)
      .map(({ outerHTML }) => outerHTML),
  );
  t.same(unnamed, [], 'everything that can be used has a name');
});

t.test('several runs overlaid, told apart, compared', async (t) => {
  const browser = await launchFor(t);
  if (browser === undefined) return;
  const runs = [3, 4, 5].map((level) => ({ name: `runs/${level}`, record: run(level) }));
  const { page, faults } = await open(browser, file(t, [...runs, { name: HOSTILE, record: run(6, HOSTILE) }]));
  t.equal(await page.locator('h1').textContent(), '4 runs');
  const loss = page.locator('figure').first();
  t.equal(await loss.locator('path.main').count(), 8, 'training and validation of each');
  const colours = await loss
    .locator('.legend .swatch')
    .evaluateAll((marks) => marks.map((mark) => getComputedStyle(mark).backgroundColor));
  t.equal(new Set(colours).size, 4);
  await page.getByRole('checkbox', { name: 'runs/4' }).uncheck();
  await page.waitForFunction(() => document.querySelectorAll('section > figure path.main').length === 6);
  await page.getByLabel('differences alone').check();
  await drawn(page);
  t.same(await page.locator('.facts tbody th').allTextContents(), ['lr']);
  t.equal(await hacked(page), 0);
  t.same(faults, { errors: [], foreign: [] });
});

t.test('phone and screen, light and dark: nothing sticks out, and text can be read', async (t) => {
  const browser = await launchFor(t);
  if (browser === undefined) return;
  const url = file(t, [{ name: 'runs/with/a/rather/long/name-of-the-folder-that-holds-it', record: run(3) }]);
  for (const width of [320, 390, 768, 1600]) {
    for (const colorScheme of ['light', 'dark'] as const) {
      const { page } = await open(browser, url, { width, colorScheme, hasTouch: width < 500 });
      const measured = await page.evaluate(() => {
        const luminance = (colour: string) => {
          const [r, g, b] = (colour.match(/[\d.]+/g) ?? []).map((part) => {
            const value = Number(part) / 255;
            return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
          });
          return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const card = luminance(getComputedStyle(document.querySelector('.card') as Element).backgroundColor);
        const contrast = (selector: string) => {
          const text = luminance(getComputedStyle(document.querySelector(selector) as Element).color);
          return (Math.max(text, card) + 0.05) / (Math.min(text, card) + 0.05);
        };
        return {
          wide: document.documentElement.scrollWidth,
          contrasts: ['dt', 'dd b', 'dd small', '.samples b', 'h4'].map(contrast),
        };
      });
      t.ok(measured.wide <= width, `${measured.wide} of ${width}`);
      // WCAG 2.2, success criterion 1.4.3.
      for (const contrast of measured.contrasts) t.ok(contrast >= 4.5, `${contrast.toFixed(1)} to 1, ${colorScheme}`);
      await page.close();
    }
  }
});
