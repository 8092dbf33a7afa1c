// Package deploy puts a vLLM server on a machine, proves that it answers, explains why it
// doesn't, and takes it away again.
//
// A server is started as a container through the Docker Engine API, or, on machines without
// an engine, as a process of its own. [Launch] goes through phases (preflight, pull, start, load,
// completion), each with its share of the context's deadline, and returns only when the
// server has answered a real request with the deployment's own key, or when everything that it
// started has been removed again. Whatever fails is an [*Error] that says in which phase, why, what
// to do, and what is left on the machine.
//
// Secrets (API key, Hugging Face token, registry credentials) travel only in a container's
// environment through the Engine API, on a process's standard input, or in a request header. They are
// in no command line, log, file or error.
package deploy
