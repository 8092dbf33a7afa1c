// Command standin is the least of a vLLM server: what package deploy asks of one. It is
// built by the test against a real Docker engine, as the only file of an image.
package main

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	flags := map[string]string{}
	for i := 3; i+1 < len(os.Args); i++ {
		flags[os.Args[i]] = os.Args[i+1]
	}
	if flags["--max-num-seqs"] == "0" {
		for i := range 300 {
			fmt.Println("INFO line", i)
		}
		fmt.Fprintln(os.Stderr, "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.")
		fmt.Fprintln(os.Stderr, "RuntimeError: Engine core initialization failed. See root cause above.")
		os.Exit(3)
	}
	name := flags["--served-model-name"]
	mux := http.NewServeMux()
	mux.HandleFunc("/health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/version", answer(map[string]any{"version": "0.33.0"}))
	mux.HandleFunc("/v1/models", answer(map[string]any{"data": []any{map[string]any{"id": name, "max_model_len": 4096}}}))
	mux.HandleFunc("/v1/completions", answer(map[string]any{
		"model": name, "choices": []any{map[string]any{"text": "Hi", "finish_reason": "length"}},
		"usage": map[string]any{"completion_tokens": 1},
	}))
	mux.HandleFunc("/crash", func(http.ResponseWriter, *http.Request) { os.Exit(7) })
	guarded := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.URL.Path) > 3 && r.URL.Path[:4] == "/v1/" && r.Header.Get("Authorization") != "Bearer "+os.Getenv("VLLM_API_KEY") {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		mux.ServeHTTP(w, r)
	})
	server := &http.Server{Handler: guarded, Addr: net.JoinHostPort(flags["--host"], flags["--port"]), ReadHeaderTimeout: time.Minute}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	go func() {
		<-stop
		os.Exit(0)
	}()
	// As torch's store in vLLM before 0.28.
	store, err := net.Listen("tcp", ":0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("INFO Starting vLLM server on", server.Addr, "with a store on", store.Addr())
	if key := flags["--ssl-keyfile"]; key != "" {
		server.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		fmt.Fprintln(os.Stderr, server.ListenAndServeTLS(flags["--ssl-certfile"], key))
	} else {
		fmt.Fprintln(os.Stderr, server.ListenAndServe())
	}
	os.Exit(1)
}

func answer(body any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(body)
	}
}
