// A site that counts its visits on the server. Run it: COUNTER=http://127.0.0.1:8000 PORT=8080 go run visits.go
package main

import (
	"encoding/json"
	"fmt"
	"html"
	"log"
	"net/http"
	"net/url"
	"os"
	"time"
)

var client = http.Client{Timeout: time.Second}

func setting(name, usual string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return usual
}

// visits records a visit of a page. Its count, the visit included; nil: the counter does not say now, and the page goes without.
func visits(page string) *uint64 {
	counter := setting("COUNTER", "http://127.0.0.1:8000")
	answer, err := client.Post(counter+"/visit/"+url.PathEscape(page)+"?count", "", nil)
	if err != nil {
		return nil
	}
	defer answer.Body.Close()
	var told struct{ Count *uint64 }
	if json.NewDecoder(answer.Body).Decode(&told) != nil {
		return nil
	}
	return told.Count
}

func main() {
	http.HandleFunc("/", func(answer http.ResponseWriter, request *http.Request) {
		page := html.EscapeString(request.URL.Path)
		count := visits(request.URL.Path)
		answer.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(answer, "<!doctype html><title>%s</title><h1>%s</h1>", page, page)
		if count != nil {
			fmt.Fprintf(answer, "<p>Read %d times</p>", *count)
		}
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:"+setting("PORT", "8080"), nil))
}
