import { spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

export const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** A fenced block of a guide. */
export interface GuideBlock {
  /** `README.md:12` */
  place: string;
  language: string;
  code: string;
  /** From a comment `<!-- before: ... -->` above the block: what it takes for granted. */
  before: string;
}

/** The fenced blocks of a Markdown file, in order. */
export function blocksOf(file: string): GuideBlock[] {
  const text = readFileSync(join(ROOT, file), 'utf8');
  const blocks = text.matchAll(/(?:^<!-- before:\s([\s\S]*?)-->\n\n?)?^```(\w*)\n([\s\S]*?)^```$/gm);
  return Array.from(blocks, ({ index, 0: whole, 1: before = '', 2: language = '', 3: code = '' }) => {
    const fence = index + whole.indexOf('```');
    return { place: `${file}:${text.slice(0, fence).split('\n').length}`, language, code, before };
  });
}

/** Sizes in programs that a trial replaces. */
const SMALLER: [RegExp, string][] = [
  [/\b(nLayer): \d+/g, '$1: 1'],
  [/\b(nHead): \d+/g, '$1: 2'],
  [/\b(nEmbd|nPositions|blockSize): \d+/g, '$1: 16'],
  [/\b(maxSteps|saveEvery|evalEvery): [\d_]+/g, '$1: 4'],
  [/\b(maxNewTokens): \d+/g, '$1: 4'],
  [/\b(vocabSize): [\d_]+/g, '$1: 400'],
  [/\b(warmupSteps): \d+/g, '$1: 1'],
];

export function smallerProgram(code: string): string {
  return SMALLER.reduce((text, [pattern, replacement]) => text.replaceAll(pattern, replacement), code);
}

const COMPILER: ts.CompilerOptions = {
  target: ts.ScriptTarget.ES2022,
  lib: ['lib.es2023.d.ts', 'lib.esnext.disposable.d.ts'],
  module: ts.ModuleKind.NodeNext,
  moduleResolution: ts.ModuleResolutionKind.NodeNext,
  typeRoots: [join(ROOT, 'node_modules/@types')],
  types: ['node'],
  strict: true,
  exactOptionalPropertyTypes: true,
  skipLibCheck: true,
};

const declarations = new Map<string, ts.SourceFile | undefined>();

/** Reads the declarations of libraries and of the package once for all programs, which takes longer than all else. */
function compilerHost(): ts.CompilerHost {
  const host = ts.createCompilerHost(COMPILER);
  const read = host.getSourceFile.bind(host);
  host.getSourceFile = (name, ...rest) => {
    if (!name.endsWith('.d.ts')) return read(name, ...rest);
    if (!declarations.has(name)) declarations.set(name, read(name, ...rest));
    return declarations.get(name);
  };
  return host;
}

/** How a block ended. */
export interface Trial {
  code: number | null;
  output: string;
}

/** A folder in which the blocks of one guide are tried, one after the other, as a reader would. */
export class Workshop {
  private programs = 0;

  /** @param env variables beside those that every program has. */
  constructor(
    readonly folder: string,
    private readonly env: { [name: string]: string },
  ) {
    const bin = join(folder, 'bin');
    mkdirSync(bin);
    for (const name of ['npx', 'npm']) {
      const path = join(bin, name);
      writeFileSync(path, `#!/bin/sh\nexec '${process.execPath}' '${join(ROOT, 'test/cli/small.mjs')}' ${name} "$@"\n`);
      chmodSync(path, 0o755);
    }
    mkdirSync(join(folder, 'node_modules'));
    symlinkSync(ROOT, join(folder, 'node_modules', 'kotodama'));
  }

  /** Runs a block, Python's where one with Transformers is named; one that does not run only has to be well formed. */
  async try(block: GuideBlock): Promise<Trial> {
    switch (block.language) {
      case 'sh':
        return this.run('bash', ['-euo', 'pipefail', '-c', `${block.before}\n${block.code}`]);
      case 'ts':
        return this.runProgram(smallerProgram(`${block.before}\n${block.code}`));
      case 'python': {
        const { KOTODAMA_BENCH_PYTHON: python } = process.env;
        return python === undefined
          ? { code: 0, output: '' }
          : this.run(python, ['-c', `${block.before}\n${block.code}`]);
      }
      case 'json':
        JSON.parse(block.code);
        return { code: 0, output: '' };
      case 'text':
        return { code: 0, output: '' };
      default:
        return { code: 1, output: `there is no way to try a block of '${block.language}'` };
    }
  }

  /** Checks the types of a program against the package as it is published, and runs it. */
  private async runProgram(code: string): Promise<Trial> {
    const path = join(this.folder, `program-${++this.programs}.mts`);
    writeFileSync(path, code);
    const program = ts.createProgram([path], COMPILER, compilerHost());
    const problems = ts.getPreEmitDiagnostics(program);
    if (problems.length > 0) {
      const host = {
        getCanonicalFileName: (name: string) => name,
        getCurrentDirectory: () => this.folder,
        getNewLine: () => '\n',
      };
      return { code: 1, output: ts.formatDiagnostics(problems, host) };
    }
    program.emit();
    return this.run(process.execPath, [path.replace(/\.mts$/, '.mjs')]);
  }

  private run(command: string, words: string[]): Promise<Trial> {
    const { PATH = '' } = process.env;
    const env = {
      PATH: `${join(this.folder, 'bin')}:${dirname(process.execPath)}:${PATH}`,
      HOME: this.folder,
      LC_ALL: 'C.UTF-8',
      ...this.env,
    };
    const child = spawn(command, words, { cwd: this.folder, env, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        output += text;
      });
    }
    return new Promise((resolve, reject) => {
      child.on('error', reject);
      child.on('close', (code) => resolve({ code, output }));
    });
  }
}

/** Links of a Markdown file to files that are not there. */
export function brokenLinks(file: string): string[] {
  const text = readFileSync(join(ROOT, file), 'utf8');
  const targets = Array.from(
    text.matchAll(/\]\(([^)\s]+)\)|(?:src|srcset|href)="([^"]+)"/g),
    ([, a, b]) => a ?? b ?? '',
  );
  return targets.filter((target) => {
    const [path] = target.split('#');
    return path !== '' && !/^https?:/.test(target) && !existsSync(join(ROOT, dirname(file), path as string));
  });
}
