// Other servers that do the same job, each a process on 127.0.0.1 with an empty directory, in front of one upstream, in
// the configuration that is best for a cache. And nginx, which is not a cache here, but sends files as fast as the
// machine can.
//
// Both versions of distribution ask the upstream on each pull by tag. When several clients pull the same cold blob at
// once, distribution stores what the first one gets, and downloads the blob again for each of the others. zot copies a
// whole image when its manifest is requested, and responds when it has all of it; of an upstream's blobs it serves only
// those of images that it has copied. Version 1 never revalidates a tag.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { ensureGoProgram } from '../test/support/go-programs.ts';
import { freePort, type Server, startServer } from './programs.ts';

/** A program that is installed. */
export interface Competitor {
  readonly name: string;
  /** As the program reports it. */
  readonly version: string;
  /**
   * Starts it with its data in `directory`, which is empty, in front of `source`: the upstream's URL, or for nginx the
   * directory of the files. Throws with its output if it does not respond.
   */
  start(directory: string, source: string): Promise<Server>;
}

/** A program that is not available. */
export interface Absent {
  readonly name: string;
  /** The reason: it is not installed, or cannot be built. */
  readonly absent: string;
}

/** The caches. Those without a Debian package are built now, once. */
export function findCompetitors(): (Competitor | Absent)[] {
  return [
    found('distribution 2', () => distribution(installed('docker-registry'))),
    found('distribution 3', () => distribution(ensureGoProgram({ name: 'distribution' }))),
    found('zot', zot),
  ];
}

/** nginx serving a directory with sendfile(2): what the machine can do with hot content. */
export function findNginx(): Competitor | Absent {
  return found('nginx', () => {
    const command = installed('nginx');
    // It prints its version to stderr.
    const version = versionIn('sh', ['-c', '"$0" -v 2>&1', command], /nginx\/(\S+)/);
    return { version, start: (directory, source) => startNginx(command, directory, source) };
  });
}

type Program = Omit<Competitor, 'name'>;

function found(name: string, find: () => Program): Competitor | Absent {
  try {
    return { name, ...find() };
  } catch (error) {
    return { name, absent: (error as Error).message };
  }
}

function distribution(command: string): Program {
  return {
    version: versionIn(command, ['--version'], / v?(\d\S*?)(?:\+unknown)?$/m),
    start: async (directory, upstreamUrl) => {
      const port = await freePort();
      const config = writeConfig(directory, {
        version: '0.1',
        log: { level: 'error', accesslog: { disabled: true } },
        // The descriptor cache is as in its own example.
        storage: {
          cache: { blobdescriptor: 'inmemory' },
          filesystem: { rootdirectory: join(directory, 'data') },
        },
        http: { addr: `127.0.0.1:${port}`, secret: 'of this run' },
        proxy: { remoteurl: upstreamUrl },
      });
      // Otherwise version 3 looks for a collector of traces.
      const env = { OTEL_TRACES_EXPORTER: 'none' };
      return startServer({ command, args: ['serve', config], port, directory, env });
    },
  };
}

/** A zot on the PATH is assumed to be version 2 or later; the module that is built here is version 1. */
function zot(): Program {
  const module = { name: 'zot', tags: ['sync', 'containers_image_openpgp'] };
  const command = onPath('zot') ?? ensureGoProgram(module);
  return {
    version: zotVersion(command),
    start: async (directory, upstreamUrl) => {
      const port = await freePort();
      const data = join(directory, 'data');
      mkdirSync(data);
      // zot sends its token along on a redirect to another port of the same host, which the blob host rejects.
      // ghcr.io redirects to another host, so this makes it look like one.
      const upstream = upstreamUrl.replace('//127.0.0.1:', '//localhost:');
      const config = writeConfig(directory, {
        distSpecVersion: '1.0.1',
        storage: { rootDirectory: data, dedupe: false, gc: false },
        http: { address: '127.0.0.1', port: String(port) },
        log: { level: 'error', output: '/dev/null' },
        extensions: {
          sync: {
            enable: true,
            registries: [{ urls: [upstream], onDemand: true, tlsVerify: false, content: [{ prefix: '**' }] }],
          },
        },
      });
      return startServer({ command, args: ['serve', config], port, directory });
    },
  };
}

/** A released zot prints its version; one that Go built from a module has it in its build information. */
function zotVersion(command: string): string {
  const released = /"(?:version|commit)":"v?(\d+\.[^"]*?)(?:-0-g[0-9a-f]+)?"/;
  const shown = execFileSync('sh', ['-c', '"$0" --version 2>&1', command], { encoding: 'utf8' });
  return released.exec(shown)?.[1] ?? versionIn('go', ['version', '-m', command], /^\s*mod\s+\S+\s+v(\S+)/m);
}

async function startNginx(command: string, directory: string, files: string): Promise<Server> {
  const port = await freePort();
  const config = join(directory, 'nginx.conf');
  // By default its workers run as a user without access to the files.
  const user = process.getuid?.() === 0 ? 'user root;' : '';
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];
  writeFileSync(
    config,
    `${user}
daemon off;
worker_processes auto;
pid "${join(directory, 'nginx.pid')}";
error_log stderr error;
events { worker_connections 4096; }
http {
  access_log off;
  sendfile on;
  tcp_nopush on;
  aio off;
  default_type application/octet-stream;
  keepalive_requests 1000000000;
  ${temporary.map(name => `${name}_temp_path "${join(directory, name)}";`).join('\n  ')}
  server {
    listen 127.0.0.1:${port} backlog=4096;
    root "${files}";
  }
}
`,
  );
  const args = ['-e', 'stderr', '-p', directory, '-c', config];
  return startServer({ command, args, port, directory, path: '/' });
}

function writeConfig(directory: string, config: object): string {
  const path = join(directory, 'config.json');
  writeFileSync(path, JSON.stringify(config));
  return path;
}

function versionIn(command: string, args: readonly string[], version: RegExp): string {
  const output = execFileSync(command, args, { encoding: 'utf8' });
  const [, text] = version.exec(output) ?? [];
  if (text === undefined) throw new Error(`${command} does not print its version: ${output.trim()}`);
  return text;
}

function installed(command: string): string {
  const path = onPath(command);
  if (path === undefined) throw new Error(`${command} is not installed`);
  return path;
}

/** Also looks in the directories of system programs, which are not on every PATH. */
function onPath(command: string): string | undefined {
  const directories = [...(process.env.PATH ?? '').split(delimiter), '/usr/local/sbin', '/usr/sbin'];
  return directories.map(directory => join(directory, command)).find(path => existsSync(path));
}
