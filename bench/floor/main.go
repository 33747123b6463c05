// The floor: the least that a relay of events has to do, in Go's standard library. It takes a request
// (POST /ingest), appends its events to a file, answers 202 when a group commit (fdatasync) has them on disk,
// and posts them, signed, over kept connections, 16 at once. It has no schema, subscription, retry, order or
// log. What it does in a second, and the CPU it takes, on the same machine and in the same run, is the
// yardstick for what the platform does: a ratio that holds where absolute figures do not.
//
//	floor -listen 127.0.0.1:0 -to http://127.0.0.1:19000/a,http://127.0.0.1:19001/b -copies 2 -file floor.log
//
// It prints `ready http://HOST:PORT` when it takes requests.
package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"
)

const (
	bodyBytes = 8 << 20 // of a request
	waiting   = 1 << 20 // deliveries
	atOnce    = 16
	together  = 512 // requests of one commit
)

type request struct {
	events [][]byte
	done   chan error
}

type delivery struct {
	to   string
	body []byte
}

func main() {
	listen := flag.String("listen", "127.0.0.1:8099", "address to take events at")
	to := flag.String("to", "http://127.0.0.1:19000/fast", "URLs to post them to, separated by commas")
	copies := flag.Int("copies", 1, "how often each event is posted, to the URLs in turn")
	split := flag.Bool("split", false, "take a body as an array of events, each posted by itself")
	secret := flag.String("secret", "secret", "of the signatures")
	file := flag.String("file", "floor.log", "file that events are appended to")
	flag.Parse()
	out, err := os.OpenFile(*file, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	urls := strings.Split(*to, ",")
	queue, send := make(chan request, 4096), make(chan delivery, waiting)
	go commit(out, queue, func(body []byte) {
		for i := 0; i < *copies; i++ {
			send <- delivery{urls[i%len(urls)], body}
		}
	})
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	for i := 0; i < atOnce; i++ {
		go deliver(client, []byte(*secret), send)
	}
	http.HandleFunc("/ingest", func(w http.ResponseWriter, r *http.Request) {
		events, err := read(w, r, *split)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		taken := request{events, make(chan error, 1)}
		queue <- taken
		if err := <-taken.done; err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusAccepted)
	})
	fmt.Printf("ready http://%s\n", listener.Addr())
	log.Fatal(http.Serve(listener, nil))
}

// read returns the events of a request: its body, or with split the elements of the array that it is.
func read(w http.ResponseWriter, r *http.Request, split bool) ([][]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bodyBytes))
	if err != nil || !split {
		return [][]byte{body}, err
	}
	var elements []json.RawMessage
	if err := json.Unmarshal(body, &elements); err != nil {
		return nil, err
	}
	events := make([][]byte, len(elements))
	for i, element := range elements {
		events[i] = element
	}
	return events, nil
}

// commit writes the events of all requests that wait, syncs once, and then answers and sends them.
func commit(out *os.File, queue chan request, send func([]byte)) {
	for first := range queue {
		batch := []request{first}
	gather:
		for len(batch) < together {
			select {
			case another := <-queue:
				batch = append(batch, another)
			default:
				break gather
			}
		}
		var buffer bytes.Buffer
		for _, taken := range batch {
			for _, event := range taken.events {
				buffer.Write(event)
				buffer.WriteByte('\n')
			}
		}
		_, err := out.Write(buffer.Bytes())
		if err == nil {
			err = syscall.Fdatasync(int(out.Fd()))
		}
		for _, taken := range batch {
			taken.done <- err
			if err == nil {
				for _, event := range taken.events {
					send(event)
				}
			}
		}
	}
}

// deliver posts what waits, one after another, and takes an answer for an arrival.
func deliver(client *http.Client, secret []byte, send chan delivery) {
	for next := range send {
		mac := hmac.New(sha256.New, secret)
		mac.Write(next.body)
		post, err := http.NewRequest("POST", next.to, bytes.NewReader(next.body))
		if err != nil {
			log.Fatal(err)
		}
		post.Header.Set("Content-Type", "application/cloudevents+json")
		post.Header.Set("X-AKENEO-SIGNATURE-PRIMARY", hex.EncodeToString(mac.Sum(nil)))
		answer, err := client.Do(post)
		if err != nil {
			log.Print(err)
			continue
		}
		io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
	}
}
