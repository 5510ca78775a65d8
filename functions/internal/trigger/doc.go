// Package trigger knows every envelope a platform delivers: it turns the bytes
// into deliveries for the domain, and the domain's results into the answer that
// platform understands. Which envelope it is shows in the bytes, not in the
// configuration: one function may have several triggers, and their documentation
// and SDK types contradict each other (source: fc-eventbridge.md, traps 1, 2). A
// new trigger is one file and one line in envelopes.
//
// Which request it is: a CloudEvent has its own source and id. Data alone takes
// those of the innermost envelope that has any: the message id, topic, partition
// and offset, the timer's name and time, else the CloudEvent around it. They are
// the same in every redelivery. An element of an array in one message adds "#"
// and its index. Data by itself, and in an HTTP trigger's request, is known by
// its bytes: source [SourceBare], id the first 32 hex digits of the SHA-256 of
// its JSON without insignificant white space.
//
// Who is believed: who may write to the trigger's topic may ask for pushes and
// sweeps; the allow-list bounds what for. HTTP requests that arrive as events come
// from outsiders and need the token inside them. Operations, and priority "human",
// are for a single event by direct invoke or with the token. What a platform hands
// over as somebody wrote it (an MNS topic in STREAM format, RawData, a constant
// input) cannot be told from a direct invoke: who may write there is as trusted.
package trigger
