import { messageOf } from '../errors.js';
import { Dashboard } from '../report/dashboard/server.js';
import { watchRuns } from '../report/dashboard/watch.js';
import { findRuns } from '../report/find-runs.js';
import { OptionReader } from '../validate.js';
import type { Command } from './command.js';
import { catchInterrupt } from './interrupt.js';
import { DASHBOARD_OPTIONS, flagOf, parseFlags, readOptions, requireOptions } from './options.js';

interface DashboardArguments {
  runs: string[];
  port?: number;
  dashboardHost: string;
}

export const dashboard: Command = {
  summary: 'shows runs in a browser while they train',
  usage: 'dashboard DIR... [options]',
  options: DASHBOARD_OPTIONS,
  examples: ['kotodama dashboard runs/'],
  async run(words) {
    const reader = new OptionReader(parseFlags(words, DASHBOARD_OPTIONS, 'runs'), flagOf);
    const {
      runs,
      port,
      dashboardHost: host,
    } = readOptions(reader, DASHBOARD_OPTIONS, 'dashboard') as unknown as DashboardArguments;
    requireOptions(reader, DASHBOARD_OPTIONS, ['runs']);
    reader.finish('The options of kotodama dashboard are not valid');

    const server = await Dashboard.start({ port, host });
    using interrupt = catchInterrupt(() => {});
    try {
      const found = await findRuns(runs);
      process.stderr.write(`${found.length === 0 ? 'no run yet' : found.join(', ')}; Ctrl-C ends this, not the runs\n`);
      process.stdout.write(`${server.url}\n`);
      await watchRuns(server, runs, interrupt.signal, (folder, error) => {
        process.stderr.write(`warning: ${folder} cannot be read now (${messageOf(error)}); it is tried again\n`);
      });
    } finally {
      // A server that is left open keeps the process, and shows numbers that nobody reads on.
      await server.close();
    }
    return 0;
  },
};
