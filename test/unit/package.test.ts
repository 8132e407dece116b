// What a project that installs the package finds in it.
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import t from 'tap';
import ts from 'typescript';

t.test('TypeScript finds the types, however it looks for modules', (t) => {
  const folder = t.testdir();
  mkdirSync(join(folder, 'node_modules'));
  symlinkSync(resolve('.'), join(folder, 'node_modules/kotodama'));
  const { Node10, NodeNext, Bundler } = ts.ModuleResolutionKind;
  for (const moduleResolution of [Node10, NodeNext, Bundler]) {
    const { resolvedModule } = ts.resolveModuleName('kotodama', join(folder, 'a.ts'), { moduleResolution }, ts.sys);
    t.equal(resolvedModule?.resolvedFileName, resolve('dist/index.d.ts'), ts.ModuleResolutionKind[moduleResolution]);
  }
  t.end();
});

t.test('options of the data pipeline and the Trainer may be undefined under exactOptionalPropertyTypes', (t) => {
  const folder = t.testdir();
  mkdirSync(join(folder, 'node_modules'));
  symlinkSync(resolve('.'), join(folder, 'node_modules/kotodama'));
  const path = join(folder, 'program.mts');
  writeFileSync(
    path,
    `import type { BufferedShuffleOptions, DataLoaderOptions, FileDatasetOptions, TokenDatasetOptions, TrainerOptions } from 'kotodama';
    type Undefined<T> = Record<{ [K in keyof T]-?: {} extends Pick<T, K> ? K : never }[keyof T], undefined>;
    declare function give<T>(): Undefined<T>;
    export const loader: Partial<DataLoaderOptions> = give<DataLoaderOptions>();
    export const shuffle: Partial<BufferedShuffleOptions> = give<BufferedShuffleOptions>();
    export const files: Partial<FileDatasetOptions> = give<FileDatasetOptions>();
    export const ids: Partial<TokenDatasetOptions> = give<TokenDatasetOptions>();
     export const trainer: Partial<TrainerOptions> = give<TrainerOptions>();`,
  );
  const options: ts.CompilerOptions = {
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.NodeNext,
    typeRoots: [resolve('node_modules/@types')],
    types: ['node'],
    strict: true,
    exactOptionalPropertyTypes: true,
    skipLibCheck: true,
    noEmit: true,
  };
  const problems = ts.getPreEmitDiagnostics(ts.createProgram([path], options));
  t.same(
    problems.map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n')),
    [],
  );
  t.end();
});
