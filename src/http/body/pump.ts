// How the bytes of a source get into a response: through pooled buffers, here, or past this process (zerocopy.ts).
import type { Span } from '../../base/spans.ts';
import type { ResponseWriter } from './response-writer.ts';

/**
 * Sends a span of the writer's source. Everything before it, such as the head, has been written. Resolves when what
 * follows can be written, or the client has disconnected. Throws what reading the source throws.
 */
export type Pump = (writer: ResponseWriter, span: Span) => Promise<void>;

/** Reads into one buffer while another is written. Always works. */
export const pumpBuffers: Pump = (writer, span) => writer.copy(span);
