import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Locator, Page } from 'playwright-core';
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
  t.match(await page.locator('.facts').first().textContent(), /memory3\.7 GiB of 8\.5 GiB free/);
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
  t.match(await spoken.textContent(), /^step 9: training \d+\.\d+$/, 'no evaluation yet');
  for (let press = 0; press < 14; press++) await page.keyboard.press('ArrowRight');
  t.match(await spoken.textContent(), /^step 65: training \d+\.\d+, validation 4 at 50$/);
  await page.keyboard.press('+');
  await page.waitForFunction(() => !document.querySelector<HTMLButtonElement>('.toolbar button')?.disabled);
  await page.keyboard.press('Escape');
  const showsAll = () => document.querySelector<HTMLButtonElement>('.toolbar button')?.disabled;
  await page.waitForFunction(showsAll);
  for (let press = 0; press < 20; press++) await page.keyboard.press('+');
  await drawn(page);
  const ticks = await page.locator('figure').first().locator('text[text-anchor=middle]').allTextContents();
  t.ok(ticks.length === 1 || ticks.length === 2, `about one step: ${ticks}`);
  for (let press = 0; press < 8; press++) await page.keyboard.press('-');
  await page.waitForFunction(showsAll);
  await page.keyboard.press('-');
  await drawn(page);
  t.equal(await page.evaluate(showsAll), true, 'there is nothing beyond all');
  const picture = page.getByRole('img', {
    name: /^Loss\. training: .* at 1, .* at 200; validation: 4 at 50, 4 at 200\.$/,
  });
  t.equal(await picture.count(), 1);
  const parts = /^Time of a step\. .*; optimizer: 500 at 1, 500 at 200; waiting for data: 500 at 1, 500 at 200\.$/;
  t.equal(await page.getByRole('img', { name: parts }).count(), 1, 'of each part its own time');
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
  t.equal(new Set(await looks(loss.locator('.legend .swatch'))).size, 8, 'and each looks otherwise');
  await page.getByRole('checkbox', { name: 'runs/4' }).uncheck();
  await page.waitForFunction(() => document.querySelectorAll('section > figure path.main').length === 6);
  await page.getByLabel('differences alone').check();
  await drawn(page);
  t.same(await page.locator('.facts tbody th').allTextContents(), ['lr']);
  t.equal(await hacked(page), 0);
  t.same(faults, { errors: [], foreign: [] });
});

/** The colours and dashes of a legend's marks. */
function looks(marks: Locator): Promise<string[]> {
  return marks.evaluateAll((marks) =>
    marks.map((mark) => {
      const line = mark.querySelector('line');
      if (line === null) return getComputedStyle(mark).backgroundColor;
      return `${getComputedStyle(line).stroke} ${line.getAttribute('stroke-dasharray')}`;
    }),
  );
}

t.test('ten runs of different length: no two look the same, none has values that it has not reached', async (t) => {
  const browser = await launchFor(t);
  if (browser === undefined) return;
  const runs = Array.from({ length: 10 }, (_, index) => {
    const record = new RunRecord();
    record.add(startEvent(0, { configuration: { training: { data: `a/long/path/of/file-${index}.txt` } } }));
    for (let step = 1; step <= 100 * (index + 1); step++) record.add(stepEvent(step, { loss: index + 2 }));
    record.add(evalEvent(100 * (index + 1), index + 3));
    return { name: `run ${index}`, record };
  });
  const { page, faults } = await open(browser, file(t, runs));
  const loss = page.locator('figure').first();
  t.equal(new Set(await looks(loss.locator('.legend .swatch'))).size, 20);
  t.equal(new Set(await looks(page.locator('.runs .swatch'))).size, 10);
  const box = (await loss.locator('.plot').boundingBox()) as { x: number; y: number; width: number };
  await page.mouse.move(box.x + 54 + 0.85 * (box.width - 68), box.y + 60);
  await drawn(page);
  t.same(await loss.locator('.tip div span').allTextContents(), ['run 8', 'run 9']);
  const widths = await page
    .locator('.facts tr', { hasText: 'a/long/path' })
    .locator('td')
    .evaluateAll((cells) =>
      cells.map((cell) => cell.getBoundingClientRect().width / Number.parseFloat(getComputedStyle(cell).fontSize)),
    );
  t.ok(Math.min(...widths) >= 8, `columns are scrolled to, not broken letter by letter: ${widths} em`);
  t.same(faults, { errors: [], foreign: [] });
});

t.test('one step is a dot, and no axis says the same twice', async (t) => {
  const browser = await launchFor(t);
  if (browser === undefined) return;
  const tickTexts = (page: Page) =>
    page
      .locator('figure svg[role=img]')
      .evaluateAll((charts) =>
        charts.flatMap((chart) =>
          ['end', 'middle'].map((side) =>
            [...chart.querySelectorAll(`text[text-anchor=${side}]`)].map(({ textContent }) => textContent ?? ''),
          ),
        ),
      );
  for (const count of [1, 2, 3, 50_017]) {
    const record = new RunRecord();
    record.add(startEvent());
    for (let step = 1; step <= count; step++)
      record.add(stepEvent(step, { loss: 3.2 + step * 1e-5, stepSeconds: 1.5 }));
    const { page } = await open(browser, file(t, [{ name: 'a', record }]), { height: 3000 });
    const loss = page.locator('figure').first();
    if (count === 1) t.equal(await loss.locator('circle').count(), 1);
    for (const axis of ['step', 'tokens', 'seconds']) {
      await page.getByLabel('along').selectOption(axis);
      await drawn(page);
      await drawn(page);
      await loss.locator('.plot').focus();
      for (let press = 0; press <= 20; press += 4) {
        for (const texts of await tickTexts(page)) {
          t.equal(new Set(texts).size, texts.length, `${count} steps, ${axis}, ${press} times nearer: ${texts}`);
        }
        if (count < 10) break;
        await page.keyboard.press('End');
        for (const key of '++++') await page.keyboard.press(key);
        await drawn(page);
      }
    }
    await page.close();
  }
});

t.test('the last step and the last evaluation are inside the chart', async (t) => {
  const browser = await launchFor(t);
  if (browser === undefined) return;
  const record = new RunRecord();
  record.add(startEvent());
  for (let step = 1; step <= 2001; step++) record.add(stepEvent(step));
  record.add({ ...evalEvent(2001, 4), seconds: 600 });
  const { page } = await open(browser, file(t, [{ name: 'a', record }]));
  const loss = page.locator('figure').first();
  t.equal(await page.getByRole('img', { name: /^Loss\. training: .* at 2001; validation: 4 at 2001\.$/ }).count(), 1);
  await page.getByLabel('along').selectOption('seconds');
  await drawn(page);
  await drawn(page);
  t.same(await loss.locator('text[text-anchor=middle]').allTextContents(), [
    ...['10m', '20m', '30m', '40m', '50m', '1h 00m', '1h 10m'],
  ]);
  const right = await loss.locator('svg[role=img]').evaluate((chart) => chart.clientWidth - 14);
  t.ok(Number(await loss.locator('circle').last().getAttribute('cx')) <= right);
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
        const ground = luminance(getComputedStyle(document.body).backgroundColor);
        const edges = [...document.querySelectorAll('button, select')].map((control) => {
          const edge = luminance(getComputedStyle(control).borderTopColor);
          return Math.min(...[card, ground].map((on) => (Math.max(edge, on) + 0.05) / (Math.min(edge, on) + 0.05)));
        });
        return {
          edges,
          wide: document.documentElement.scrollWidth,
          contrasts: ['dt', 'dd b', 'dd small', '.samples b', 'h4'].map(contrast),
        };
      });
      t.ok(measured.wide <= width, `${measured.wide} of ${width}`);
      // WCAG 2.2, success criteria 1.4.11 and 1.4.3.
      t.ok(measured.edges.length > 3);
      for (const edge of measured.edges) t.ok(edge >= 3, `${edge.toFixed(1)} to 1, ${colorScheme}`);
      for (const contrast of measured.contrasts) t.ok(contrast >= 4.5, `${contrast.toFixed(1)} to 1, ${colorScheme}`);
      await page.close();
    }
  }
});
