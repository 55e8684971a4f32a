// The text of a config file: YAML that remembers the line of each key, with the environment filled into its values.
// Also ConfigError, the one error of config/. Neither the contents of a variable nor anything that looks like a
// credential gets into an error: values are quoted as the file spells them.
import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import * as yaml from 'yaml';
import { fileProblem } from '../base/file-problem.ts';

/** Keys and list positions, from the root. */
export type KeyPath = readonly PropertyKey[];

interface Place {
  readonly file?: string | undefined;
  /** From 1. */
  readonly line?: number | undefined;
  /** As in `upstreams.ghcr.io.credentials[0].token`. */
  readonly key?: string;
}

/** A config that cannot be used. The message is one line: file, line and key, then what is wrong and what to do. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  readonly file: string | undefined;
  readonly line: number | undefined;
  readonly key: string | undefined;

  constructor(problem: string, { file, line, key }: Place) {
    const place = `${file ?? 'config'}${line === undefined ? '' : `:${line}`}`;
    super(maskSecrets([place, key, problem].filter(Boolean).join(': ')).replaceAll(/\s+/g, ' '));
    this.file = file;
    this.line = line;
    this.key = key;
  }
}

export interface SourceOptions {
  /** Absent: the defaults. */
  readonly file?: string | undefined;
  readonly env: NodeJS.ProcessEnv;
  /** The working directory. */
  readonly cwd: string;
}

/** Where settings come from: a file, or none. */
export class Source {
  /** Plain values, with the environment filled in; null or undefined when nothing is written. */
  readonly value: unknown;
  readonly env: NodeJS.ProcessEnv;
  readonly #file: string | undefined;
  readonly #directory: string;
  readonly #document: yaml.Document;
  readonly #lines = new yaml.LineCounter();
  /** Texts as they were before the environment came in. */
  readonly #spelled = new Map<unknown, string>();

  /** Reads `file`, which is relative to `cwd`; errors call it as it is given. Throws ConfigError. */
  constructor({ file, env, cwd }: SourceOptions) {
    this.env = env;
    this.#file = file;
    this.#directory = file === undefined ? cwd : dirname(resolve(cwd, file));
    this.#document = yaml.parseDocument(file === undefined ? '' : readText(resolve(cwd, file), file), {
      lineCounter: this.#lines,
      prettyErrors: false,
      logLevel: 'error',
      uniqueKeys: false, // #rejectDuplicate says more
    });
    this.#rejectBadSyntax();
    yaml.visit(this.#document, {
      Map: (_, map, parents) => this.#rejectDuplicate(map, keysOf([...parents, map])),
      Alias: (_, alias, parents) => this.#rejectUnknown(alias, keysOf([...parents, alias])),
      Scalar: (position, scalar, parents) => {
        if (position !== 'key') this.#fillIn(scalar, keysOf([...parents, scalar]));
      },
    });
    try {
      this.value = this.#document.toJS();
    } catch {
      throw new ConfigError('not usable YAML: its aliases expand to too much', { file });
    }
  }

  /** The error to throw about `keys`; its line is that of the nearest of their parents that is in the file. */
  error(keys: KeyPath, problem: string): ConfigError {
    return this.#errorAt(this.#find(keys).line, keys, problem);
  }

  /** The value at `keys` as the file spells it, for a message; undefined when there is none. */
  quote(keys: KeyPath): string | undefined {
    const { node } = this.#find(keys);
    if (yaml.isMap(node)) return 'a map';
    if (yaml.isSeq(node)) return 'a list';
    if (!yaml.isScalar(node)) return undefined;
    if (node.value === null) return 'an empty value';
    const quoted = JSON.stringify(this.#spelled.get(node) ?? node.value);
    return quoted.length > 80 ? `${quoted.slice(0, 79)}…` : quoted;
  }

  /** The absolute form of a path that is written in it. */
  resolve(path: string): string {
    return resolve(this.#directory, path);
  }

  #errorAt(line: number | undefined, keys: KeyPath, problem: string): ConfigError {
    return new ConfigError(problem, { file: this.#file, key: keyName(keys), line });
  }

  #lineOf(node: unknown): number | undefined {
    return yaml.isNode(node) && node.range ? this.#lines.linePos(node.range[0]).line : undefined;
  }

  /** The node at `keys`, and the line of the last of them that exists. */
  #find(keys: KeyPath): { node?: unknown; line: number | undefined } {
    let node: unknown = this.#document.contents;
    let line = this.#lineOf(node);
    for (const key of keys) {
      if (yaml.isAlias(node)) node = node.resolve(this.#document);
      const pair = yaml.isMap(node) && node.items.find(item => keyText(item) === String(key));
      const item = yaml.isSeq(node) && node.items[Number(key)];
      if (!pair && !item) return { line };
      line = this.#lineOf(pair ? pair.key : item);
      node = pair ? pair.value : item;
    }
    return { node: yaml.isAlias(node) ? node.resolve(this.#document) : node, line };
  }

  #rejectBadSyntax(): void {
    const [wrong] = [...this.#document.errors, ...this.#document.warnings];
    if (!wrong) return;
    // The parser quotes the text after a colon, which can be a secret; after a semicolon it talks to programmers.
    const problem = `not valid YAML: ${wrong.message.replace(/[:;] .*$/s, '')}`;
    throw this.#errorAt(this.#lines.linePos(wrong.pos[0]).line, [], problem);
  }

  #rejectDuplicate(map: yaml.YAMLMap, keys: KeyPath): void {
    const seen = new Map<string, unknown>();
    for (const item of map.items) {
      const key = keyText(item);
      if (seen.has(key)) {
        const problem = `duplicate key; the first is on line ${this.#lineOf(seen.get(key))}`;
        throw this.#errorAt(this.#lineOf(item.key), [...keys, key], problem);
      }
      seen.set(key, item.key);
    }
  }

  #rejectUnknown(alias: yaml.Alias, keys: KeyPath): void {
    if (alias.resolve(this.#document)) return;
    const problem = 'no such anchor is defined above; text that begins with * needs quotes';
    throw this.#errorAt(this.#lineOf(alias), keys, problem);
  }

  #fillIn(scalar: yaml.Scalar, keys: KeyPath): void {
    if (typeof scalar.value !== 'string') return;
    this.#spelled.set(scalar, scalar.value);
    const filled = fillIn(scalar.value, this.env);
    if (typeof filled !== 'string') throw this.#errorAt(this.#lineOf(scalar), keys, filled.problem);
    scalar.value = filled;
  }
}

function readText(path: string, file: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new ConfigError(fileProblem(error), { file });
  }
}

/** `text` with `${NAME}` replaced from the environment, once; `$${` stands for `${`. */
function fillIn(text: string, env: NodeJS.ProcessEnv): string | { problem: string } {
  let problem: string | undefined;
  const filled = text.replace(/(\$?)\$\{([^}]*)(\}?)/g, (all: string, escaped: string, name: string, end: string) => {
    if (escaped) return all.slice(1);
    const value = env[name];
    if (!end || !/^[A-Za-z_]\w*$/.test(name)) {
      problem ??= `"\${" needs the name of an environment variable and "}" after it; write "$\${" for a literal "\${"`;
    } else if (!value) {
      problem ??= `the environment variable ${name} is ${value === '' ? 'empty' : 'not set'}`;
    }
    return value ?? '';
  });
  return problem === undefined ? filled : { problem };
}

function keyText({ key }: yaml.Pair): string {
  return String(yaml.isScalar(key) ? key.value : key);
}

/** The keys along a chain of nodes, each nested in the one before. */
function keysOf(chain: readonly unknown[]): PropertyKey[] {
  return chain.flatMap((node, i): PropertyKey[] => {
    if (yaml.isPair(node)) return [keyText(node)];
    return yaml.isSeq(node) && i + 1 < chain.length ? [node.items.indexOf(chain[i + 1])] : [];
  });
}

function keyName(keys: KeyPath): string {
  return keys.map((key, i) => (typeof key === 'number' ? `[${key}]` : `${i === 0 ? '' : '.'}${String(key)}`)).join('');
}

/** Masks what may have been written in the wrong place: GitHub tokens, and users in addresses. */
function maskSecrets(text: string): string {
  return text.replaceAll(/\b(gh[a-z]_|github_pat_)\w+/g, '$1…').replaceAll(/\/\/[^\s"]*@/g, '//…@');
}
