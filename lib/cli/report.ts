import { KotodamaError } from '../errors.js';
import { writeTextFile } from '../files.js';
import { findRuns } from '../report/find-runs.js';
import { reportPage } from '../report/report.js';
import { RunRecord } from '../report/run-record.js';
import { METRICS_FILE } from '../train/run-folder.js';
import { OptionReader } from '../validate.js';
import type { Command } from './command.js';
import { flagOf, parseFlags, REPORT_OPTIONS, readOptions, requireOptions } from './options.js';
import { checkReplaces } from './overwrite.js';
import { readRunEvents } from './read-run.js';

interface ReportArguments {
  runs: string[];
  out: string;
}

export const report: Command = {
  summary: 'puts the curves of several runs into one page',
  usage: 'report DIR... [options]',
  options: REPORT_OPTIONS,
  examples: ['kotodama report runs/*', 'kotodama report runs/a runs/b --out compared.html'],
  async run(words) {
    const reader = new OptionReader(parseFlags(words, REPORT_OPTIONS, 'runs'), flagOf);
    const { runs, out } = readOptions(reader, REPORT_OPTIONS, 'report') as unknown as ReportArguments;
    requireOptions(reader, REPORT_OPTIONS, ['runs']);
    reader.finish('The options of kotodama report are not valid');
    await checkReplaces(out, 'page');

    const found = await Promise.all(runs.map((path) => findRuns([path])));
    const folders = await findRuns(runs);
    if (folders.length === 0) {
      throw new KotodamaError('ERR_OPTIONS', `There is no run in ${runs.join(', ')}`, {
        expected: `folders with ${METRICS_FILE}`,
        hint: 'give the --out of kotodama train, or the folder above it',
      });
    }
    const without = runs.filter((_, index) => found[index]?.length === 0);
    if (without.length > 0) process.stderr.write(`warning: there is no run in ${without.join(', ')}\n`);
    const records: { name: string; record: RunRecord }[] = [];
    for (const name of folders) {
      const record = new RunRecord();
      for await (const event of readRunEvents(name)) record.add(event);
      records.push({ name, record });
    }
    await writeTextFile(out, reportPage(records));
    process.stdout.write(`${out}\n`);
    return 0;
  },
};
