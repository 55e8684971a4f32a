// Preloaded into the tests (`node --test --import`): restricts the process to loopback. Any other connection or DNS
// lookup fails at once with an error that says so, so no test can depend on the network, or leak to it, unnoticed. Unix
// sockets are allowed. Also has what is compiled cached for all test files of the run: each is a process of its own.
import dns from 'node:dns';
import module, { syncBuiltinESMExports } from 'node:module';
import net, { BlockList } from 'node:net';
import { fileURLToPath } from 'node:url';

module.enableCompileCache(fileURLToPath(new URL('../../node_modules/.cache/compiled', import.meta.url)));

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4');
LOOPBACK.addAddress('::1', 'ipv6');
LOOPBACK.addSubnet('::ffff:127.0.0.0', 104, 'ipv6');

function isLoopback(host: string): boolean {
  const family = net.isIP(host);
  if (family === 0) return host.toLowerCase() === 'localhost';
  return LOOPBACK.check(host, family === 4 ? 'ipv4' : 'ipv6');
}

/** Has the code of a machine without a network, so that the code under test treats it as such. */
function blocked(what: string, host: string): Error {
  const code = net.isIP(host) === 0 ? 'ENOTFOUND' : 'ENETUNREACH';
  return Object.assign(new Error(`loopback-only: tests may not ${what} ${host}`), { code, hostname: host });
}

// Every TCP connection of net, tls, http, fetch and undici goes through this method.
const connect = net.Socket.prototype.connect as (...args: unknown[]) => net.Socket;
net.Socket.prototype.connect = function (this: net.Socket, ...args: unknown[]) {
  const host = hostOf(args);
  if (host !== undefined && !isLoopback(host)) throw blocked('connect to', host);
  return connect.apply(this, args);
} as typeof net.Socket.prototype.connect;

/**
 * The host of any form of the arguments of `connect`: (options), (port, host), (path), or, inside Node, ([options]).
 */
function hostOf(args: readonly unknown[]): string | undefined {
  const [first, second] = Array.isArray(args[0]) ? args[0] : args;
  if (typeof first === 'object' && first !== null) {
    const { host, path } = first as { host?: string | null; path?: string | null };
    return path ? undefined : (host ?? undefined);
  }
  return typeof second === 'string' ? second : undefined;
}

/** Wraps every DNS function of `target`: lookups of anything but loopback go to `fail`. */
function guard(target: object, fail: (error: Error, args: unknown[]) => unknown): void {
  const functions = target as Record<string, (...args: unknown[]) => unknown>;
  for (const name of Object.getOwnPropertyNames(target)) {
    const original = functions[name];
    if (original === undefined || !/^(lookup|resolve|reverse)/.test(name)) continue;
    // A proxy, because Node stores on the function itself how to promisify it.
    functions[name] = new Proxy(original, {
      apply(_, self, args: unknown[]) {
        const [host] = args;
        // Without a host there is nothing to look up, and Node itself rejects what is not a string.
        if (typeof host !== 'string' || host === '' || isLoopback(host)) {
          return Reflect.apply(original, self, args);
        }
        return fail(blocked('look up', host), args);
      },
    });
  }
}

function failByCallback(error: Error, args: unknown[]): void {
  const callback = args.at(-1);
  if (typeof callback !== 'function') throw error;
  process.nextTick(callback, error);
}

guard(dns, failByCallback);
guard(dns.Resolver.prototype, failByCallback);
guard(dns.promises, error => Promise.reject(error));
guard(dns.promises.Resolver.prototype, error => Promise.reject(error));
// Otherwise `import { lookup } from 'node:dns'` would still see the original.
syncBuiltinESMExports();
