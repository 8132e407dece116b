import type t from 'tap';
import { program, run } from './build.js';

type Assertions = Pick<typeof t, 'ok' | 'equal'>;

/** Passes on every line of a TAP program as an assertion of its own. `args` are the program's. */
export function relay(test: Assertions, name: string, env: Record<string, string>, args: string[] = []): void {
  const { status, output } = run(program(name), args, env);
  const lines = output.split('\n');
  let count = 0;
  lines.forEach((line, index) => {
    const match = /^(not )?ok \d+ - (.*?)(?: #.*)?$/.exec(line);
    if (!match) return;
    count++;
    const details: string[] = [];
    for (let i = index + 1; lines[i]?.startsWith('#'); i++) details.push(lines[i] as string);
    test.ok(match[1] === undefined, match[2] as string, { details });
  });
  test.ok(count > 0, `${name} ran`, { output });
  test.equal(status, 0, `${name} ended well`, { output: output.slice(-4000) });
}
