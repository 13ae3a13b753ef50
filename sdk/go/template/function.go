// Package plugin is a function that greets.
package plugin

import (
	"fmt"
	"net/http"

	"tidegate/function"
)

func init() { function.Serve(http.HandlerFunc(greet)) }

func greet(response http.ResponseWriter, request *http.Request) {
	response.Header().Set("Content-Type", "text/plain")
	if request.URL.Path != "/greet" {
		response.WriteHeader(http.StatusNotFound)
		fmt.Fprintf(response, "there is no %s\n", request.URL.Path)
		return
	}
	name := request.URL.Query().Get("name")
	if name == "" {
		name = "world"
	}
	fmt.Fprintf(response, "Hello, %s!\n", name)
}
