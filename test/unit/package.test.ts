// What a project that installs the package finds in it.
import { mkdirSync, symlinkSync } from 'node:fs';
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

t.test('the strictest settings let options be undefined', (t) => {
  const folder = t.testdir({
    'a.ts': `import type { TrainerOptions } from '${resolve('dist/index.js')}';
type Optional = { [Name in keyof TrainerOptions as undefined extends TrainerOptions[Name] ? Name : never]: undefined };
declare const required: Pick<TrainerOptions, 'model' | 'tokenizer' | 'train' | 'out'>;
declare const optional: Optional;
export const options: TrainerOptions = { ...required, ...optional, valid: undefined, lr: undefined };
`,
  });
  const program = ts.createProgram([join(folder, 'a.ts')], {
    ...{ strict: true, exactOptionalPropertyTypes: true, noEmit: true, skipLibCheck: true, types: [] },
    ...{
      module: ts.ModuleKind.NodeNext,
      target: ts.ScriptTarget.ES2022,
      lib: ['lib.es2023.d.ts', 'lib.esnext.disposable.d.ts'],
    },
  });
  const found = ts.getPreEmitDiagnostics(program, program.getSourceFile(join(folder, 'a.ts')));
  t.same(
    found.map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n')),
    [],
  );
  t.end();
});
