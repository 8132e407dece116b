// Formats all C++ and CUDA sources in place, or with --check only says which are not formatted.

import { execFileSync, spawnSync } from 'node:child_process';

const files = execFileSync('git', ['ls-files', '-co', '--exclude-standard', '--', '*.h', '*.cc', '*.cu', '*.cuh'], {
  encoding: 'utf8',
})
  .split('\n')
  .filter(Boolean);
const check = process.argv.includes('--check');
const result = spawnSync('clang-format', [...(check ? ['--dry-run', '-Werror'] : ['-i']), ...files], {
  stdio: 'inherit',
});
if (result.error !== undefined) {
  process.stderr.write('clang-format was not found; install it, e.g. with `sudo apt-get install clang-format`\n');
}
process.exitCode = result.status ?? 1;
