// Programs that Debian has no package of, built from Go modules. Each has a module in test/go, whose go.mod names
// the one tool that it is for, and whose go.sum pins all that goes into it: Go checks what it downloads against that.
// A module that names no tool is a program of our own, with its sources beside its go.mod.
// Built once into the user's cache folder, so that only a machine's first run takes the time.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const MODULES = fileURLToPath(new URL('../go', import.meta.url));
/** The first that knows of tools in go.mod; it fetches the one that a module asks for. */
const OLDEST_GO = '1.24';

/** No Go module proxy that is asked here has what a program is made of. */
export class Unobtainable extends Error {}

export interface GoProgram {
  /** Its module's folder in test/go. */
  readonly name: string;
  /** Whether it is not the tool itself but its package's tests, as a program. */
  readonly isTest?: boolean;
  /** Build tags. */
  readonly tags?: readonly string[];
}

/** Where `ensureGoProgram` puts it. */
export function goProgram({ name, tags = [] }: GoProgram): string {
  const cache = process.env.XDG_CACHE_HOME || join(homedir(), '.cache');
  const hash = createHash('sha256');
  for (const file of readdirSync(join(MODULES, name)).sort()) {
    if (/^go\.(mod|sum)$|\.go$/.test(file)) hash.update(readFileSync(join(MODULES, name, file)));
  }
  hash.update(tags.join());
  return join(cache, 'ghcr-cache-tests', `${name}-${hash.digest('hex').slice(0, 12)}`, name);
}

/** Builds it unless that has been done; its path. Throws Unobtainable, or another sentence for a person. */
export function ensureGoProgram(program: GoProgram): string {
  const { name, isTest = false, tags = [] } = program;
  const path = goProgram(program);
  if (existsSync(path)) return path;
  assertGo();
  console.log(`building ${name}`);
  const tagged = tags.length > 0 ? ['-tags', tags.join()] : [];
  const tool = toolOf(name);
  try {
    go(['list', '-deps', ...tagged, ...(isTest ? ['-test'] : []), tool], name);
  } catch (error) {
    throw new Unobtainable(`${name} cannot be had as a Go module: ${saidBy(error)}`, { cause: error });
  }
  const folder = dirname(path);
  mkdirSync(dirname(folder), { recursive: true });
  const unfinished = mkdtempSync(`${folder}-`);
  try {
    const how = isTest ? ['test', '-c'] : ['build'];
    go([...how, ...tagged, '-trimpath', '-o', join(unfinished, name), tool], name);
    rmSync(folder, { recursive: true, force: true });
    renameSync(unfinished, folder);
  } catch (error) {
    throw new Error(`Go could not build ${name}: ${saidBy(error)}`, { cause: error });
  } finally {
    rmSync(unfinished, { recursive: true, force: true });
  }
  return path;
}

/** The package to build: the tool that go.mod names, else the module's own. */
function toolOf(name: string): string {
  const [, tool] = /^tool (\S+)$/m.exec(readFileSync(join(MODULES, name, 'go.mod'), 'utf8')) ?? [];
  if (tool !== undefined) return tool;
  if (existsSync(join(MODULES, name, 'main.go'))) return '.';
  throw new Error(`test/go/${name} neither names a tool in its go.mod nor has a main.go`);
}

function assertGo(): void {
  const version = execFileSync('go', ['env', 'GOVERSION'], { encoding: 'utf8' }).trim();
  const [major = 0, minor = 0] = version
    .replace(/^go/, '')
    .split('.')
    .map(part => Number.parseInt(part, 10));
  const [oldestMajor = 0, oldestMinor = 0] = OLDEST_GO.split('.').map(Number);
  if (major > oldestMajor || (major === oldestMajor && minor >= oldestMinor)) return;
  throw new Error(
    `these tests build programs with Go ${OLDEST_GO} or newer, and \`go\` is ${version || 'older'} here`,
  );
}

/**
 * With this machine's proxies and Go settings, unlike the tests: modules do come from outside. What is ours is built
 * without the state of this checkout in it.
 */
function go(args: readonly string[], name: string): void {
  execFileSync('go', args, {
    cwd: join(MODULES, name),
    env: { ...process.env, GOFLAGS: '-mod=readonly -buildvcs=false', GOWORK: 'off' },
    maxBuffer: 64 * 1024 * 1024,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

function saidBy(error: unknown): string {
  return String((error as { stderr?: unknown }).stderr || error).trim();
}
