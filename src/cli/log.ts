// What is logged to stderr: for programs one JSON object a line, for people one aligned line a request and a sentence
// for everything else. Clients and upstreams may send anything, so neither lets through a character that could move the
// cursor of a terminal, or turn the text around.
import { pino } from 'pino';
import type { Log } from '../base/log.ts';
import type { Config } from '../config/load.ts';

type Level = 'debug' | 'info' | 'warn' | 'error';

/** As pino counts them. */
const LEVELS: Readonly<Record<Config['log']['level'], number>> = {
  ...{ trace: 10, debug: 20, info: 30, warn: 40, error: 50, fatal: 60 },
  silent: Number.POSITIVE_INFINITY,
};
/** Controls, C1 too, and those that format text: changes of direction, joiners, marks. */
const UNSAFE = /[\p{Cc}\p{Cf}\u2028\u2029]/gu;
const BEYOND_ASCII = /[\x7f-\uffff]/;
/** The same as UNSAFE, without the line break at the end and what JSON has escaped already. */
const UNSAFE_IN_JSON = /[\x7f-\x9f\p{Cf}\u2028\u2029]/gu;

type Destination = ReturnType<typeof pino.destination>;

/** Of the log of this process. */
let stderr: Destination | undefined;

/** The log that the config asks for. */
export function openLog({ log: { level, format } }: Config, isTerminal = process.stderr.isTTY): Log {
  const isText = format === 'text' || (format === 'auto' && isTerminal);
  // With less than one byte to wait for it could not be told when all are written.
  stderr = pino.destination({ dest: 2, minLength: 1 });
  return isText ? textLog(level, stderr) : jsonLog(level, stderr);
}

/** Resolves when all lines so far are out, or cannot get out. */
export function flushLog(): Promise<void> {
  return new Promise(resolve => (stderr === undefined ? resolve() : stderr.flush(() => resolve())));
}

function jsonLog(level: string, destination: Destination): Log {
  const formatters = { level: (level: string) => ({ level }) };
  const timestamp = pino.stdTimeFunctions.isoTime;
  const hooks = { streamWrite: escapeJson };
  return pino({ level, base: null, timestamp, formatters, hooks }, destination);
}

function textLog(level: Config['log']['level'], destination: Destination): Log {
  const isLevelEnabled = (each: Level) => LEVELS[each] >= LEVELS[level];
  const at = (each: Level) => (fields: object, message: string) => {
    if (isLevelEnabled(each)) destination.write(`${textOf(each, fields, message, new Date())}\n`);
  };
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error'), isLevelEnabled };
}

/** A line of JSON in which what is unsafe on a terminal is escaped too. */
export function escapeJson(line: string): string {
  // Nearly all lines are ASCII, and there is one for each request.
  return BEYOND_ASCII.test(line) ? line.replace(UNSAFE_IN_JSON, escaped) : line;
}

/** The line of an entry, and of an error that nobody expected the lines of its stack. */
export function textOf(level: Level, fields: object, message: string, time: Date): string {
  const { err, ...others } = fields as { err?: unknown };
  const isRequest = 'method' in fields && 'status' in fields;
  const line = isRequest ? requestLine(others as RequestFields, message) : sentence(others, message);
  const entry = printable(`${time.toTimeString().slice(0, 8)} ${level.padEnd(5)} ${line}`);
  return err === undefined ? entry : [entry, ...stackOf(err)].join('\n');
}

/** What Exchange logs. */
interface RequestFields {
  readonly method?: string;
  readonly kind?: string;
  readonly image?: string;
  readonly path?: string;
  readonly outcome?: string;
  readonly status?: number;
  readonly bytes?: number;
  readonly ms?: number;
  readonly client?: string;
  readonly agent?: string;
  readonly reason?: string;
}

/** In columns; what is too long for its own moves the others. */
function requestLine(fields: RequestFields, message: string): string {
  const { method = '', kind = '', image, path = '', outcome = '', status, bytes = 0, ms = 0, agent = '' } = fields;
  const columns = [
    `${method} ${kind}`.padEnd(14),
    (image === undefined ? path : shortened(image)).padEnd(40),
    outcome.padEnd(11),
    status,
    sizeText(bytes).padStart(8),
    durationText(ms).padStart(7),
    (fields.client ?? '').padEnd(15),
    agent.slice(0, 60),
  ];
  const remarks = [message === 'request' ? undefined : message, fields.reason].filter(text => text !== undefined);
  return [columns.join(' ').trimEnd(), ...(remarks.length === 0 ? [] : [remarks.join(': ')])].join(' | ');
}

function sentence(fields: object, message: string): string {
  const values = Object.entries(fields)
    .filter(([, value]) => value !== undefined)
    .map(
      ([key, value]) => ` ${key}=${typeof value === 'string' && !/[\s"=]/.test(value) ? value : JSON.stringify(value)}`,
    );
  return message + values.join('');
}

function stackOf(error: unknown): string[] {
  const text = (error instanceof Error && error.stack) || String(error);
  return text.split('\n').map(line => `  ${printable(line)}`);
}

/** Enough of a digest to recognize it by. */
function shortened(image: string): string {
  return image.replace(/(@\w+:\w{12})\w+$/, '$1');
}

function sizeText(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  const power = Math.min(4, Math.floor(Math.log2(bytes) / 10));
  const value = bytes / 1024 ** power;
  return `${value < 9.95 ? value.toFixed(1) : Math.round(value)} ${' KMGT'[power]}iB`;
}

function durationText(ms: number): string {
  if (ms < 1000) return `${ms} ms`;
  const seconds = ms / 1000;
  if (seconds < 60) return `${seconds < 9.95 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  return `${Math.floor(seconds / 60)}m${String(Math.floor(seconds % 60)).padStart(2, '0')}s`;
}

function printable(text: string): string {
  return text.replace(UNSAFE, escaped);
}

function escaped(character: string): string {
  return Array.from({ length: character.length }, (_, at) => character.charCodeAt(at))
    .map(unit => `\\u${unit.toString(16).padStart(4, '0')}`)
    .join('');
}
