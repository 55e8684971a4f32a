// Other servers that do the same job, each a process on 127.0.0.1 with an empty folder, in front of one upstream,
// in the configuration that suits a cache best. And nginx, which is no cache here, but sends files as fast as the
// machine can.
//
// distribution, of either version, asks the upstream about each pull by tag. Of the clients that want the same
// cold blob at a time, it stores what the first gets, and fetches the blob once more for each of the others.
// zot copies a whole image when its manifest is asked for, and answers when it has it; of an upstream's blobs it
// knows only those of images that it has copied. Version 1 never asks again about a tag that it has.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { ensureGoProgram } from '../test/support/go-programs.ts';
import { freePort, type Server, startServer } from './programs.ts';

/** A program that is there. */
export interface Rival {
  readonly name: string;
  /** What the program says. */
  readonly version: string;
  /**
   * Starts it with its data in `folder`, which is empty, in front of `source`: the upstream's URL, or for nginx the
   * folder with the files. Throws an error with its output if it does not come to answer.
   */
  start(folder: string, source: string): Promise<Server>;
}

/** A program that is not there. */
export interface Absent {
  readonly name: string;
  /** Why: it is not installed, or cannot be built. */
  readonly absent: string;
}

/** The caches. Those that Debian has no package of are built now, once for all later runs. */
export function findRivals(): (Rival | Absent)[] {
  return [
    found('distribution 2', () => distribution(installed('docker-registry'))),
    found('distribution 3', () => distribution(ensureGoProgram({ name: 'distribution' }))),
    found('zot', zot),
  ];
}

/** nginx in front of a folder with files, with sendfile(2): what the machine can do with content that is hot. */
export function findNginx(): Rival | Absent {
  return found('nginx', () => {
    const command = installed('nginx');
    // It says its version on stderr.
    const version = said('sh', ['-c', '"$0" -v 2>&1', command], /nginx\/(\S+)/);
    return { version, start: (folder, source) => startNginx(command, folder, source) };
  });
}

type Program = Omit<Rival, 'name'>;

function found(name: string, find: () => Program): Rival | Absent {
  try {
    return { name, ...find() };
  } catch (error) {
    return { name, absent: (error as Error).message };
  }
}

function distribution(command: string): Program {
  return {
    version: said(command, ['--version'], / v?(\d\S*?)(?:\+unknown)?$/m),
    start: async (folder, upstreamUrl) => {
      const port = await freePort();
      const config = writeConfig(folder, {
        version: '0.1',
        log: { level: 'error', accesslog: { disabled: true } },
        // The cache of descriptors is what its own example has.
        storage: {
          cache: { blobdescriptor: 'inmemory' },
          filesystem: { rootdirectory: join(folder, 'data') },
        },
        http: { addr: `127.0.0.1:${port}`, secret: 'of this run' },
        proxy: { remoteurl: upstreamUrl },
      });
      // Version 3 would look for a collector of traces.
      const env = { OTEL_TRACES_EXPORTER: 'none' };
      return startServer({ command, args: ['serve', config], port, folder, env });
    },
  };
}

/** What is on the PATH is taken to be version 2 or later; the module that is built here is version 1. */
function zot(): Program {
  const module = { name: 'zot', tags: ['sync', 'containers_image_openpgp'] };
  const command = onPath('zot') ?? ensureGoProgram(module);
  return {
    version: zotVersion(command),
    start: async (folder, upstreamUrl) => {
      const port = await freePort();
      const data = join(folder, 'data');
      mkdirSync(data);
      // It sends its token along when it is redirected to another port of the same host, and is refused there.
      // ghcr.io redirects to another host, so let it look like that.
      const upstream = upstreamUrl.replace('//127.0.0.1:', '//localhost:');
      const config = writeConfig(folder, {
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
      return startServer({ command, args: ['serve', config], port, folder });
    },
  };
}

/** A released zot knows its version; one that Go has built from a module has it in its build information. */
function zotVersion(command: string): string {
  const released = /"(?:version|commit)":"v?(\d+\.[^"]*?)(?:-0-g[0-9a-f]+)?"/;
  const shown = execFileSync('sh', ['-c', '"$0" --version 2>&1', command], { encoding: 'utf8' });
  return released.exec(shown)?.[1] ?? said('go', ['version', '-m', command], /^\s*mod\s+\S+\s+v(\S+)/m);
}

async function startNginx(command: string, folder: string, files: string): Promise<Server> {
  const port = await freePort();
  const config = join(folder, 'nginx.conf');
  // Its workers give up root for somebody who may not read the files, unless told otherwise.
  const user = process.getuid?.() === 0 ? 'user root;' : '';
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];
  writeFileSync(
    config,
    `${user}
daemon off;
worker_processes auto;
pid "${join(folder, 'nginx.pid')}";
error_log stderr error;
events { worker_connections 4096; }
http {
  access_log off;
  sendfile on;
  tcp_nopush on;
  aio off;
  default_type application/octet-stream;
  keepalive_requests 1000000000;
  ${temporary.map(name => `${name}_temp_path "${join(folder, name)}";`).join('\n  ')}
  server {
    listen 127.0.0.1:${port} backlog=4096;
    root "${files}";
  }
}
`,
  );
  const args = ['-e', 'stderr', '-p', folder, '-c', config];
  return startServer({ command, args, port, folder, path: '/' });
}

function writeConfig(folder: string, config: object): string {
  const path = join(folder, 'config.json');
  writeFileSync(path, JSON.stringify(config));
  return path;
}

function said(command: string, args: readonly string[], version: RegExp): string {
  const output = execFileSync(command, args, { encoding: 'utf8' });
  const [, text] = version.exec(output) ?? [];
  if (text === undefined) throw new Error(`${command} does not tell its version: ${output.trim()}`);
  return text;
}

function installed(command: string): string {
  const path = onPath(command);
  if (path === undefined) throw new Error(`${command} is not installed`);
  return path;
}

/** Also in the folders of system programs, which are not on everybody's PATH. */
function onPath(command: string): string | undefined {
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/local/sbin', '/usr/sbin'];
  return folders.map(folder => join(folder, command)).find(path => existsSync(path));
}
