// Package export_tidegate_gateway_request_transform is what the generated exports call.
package export_tidegate_gateway_request_transform

import (
	"tidegate"
	host "tidegate/bindings/tidegate_gateway_request_transform"
	"tidegate/edits"

	types "go.bytecodealliance.org/pkg/wit/types"
)

// TransformRequest asks the plugin.
func TransformRequest(given []types.Option[string]) types.Result[host.Outcome, string] {
	tidegate.Handed = tidegate.RecordOf(given)
	plugin, is := tidegate.Current.(tidegate.RequestTransform)
	if !is {
		return types.Err[host.Outcome, string]("the plugin has no method TransformRequest() (tidegate.Outcome, error)")
	}
	outcome, err := plugin.TransformRequest()
	if err != nil {
		return types.Err[host.Outcome, string](err.Error())
	}
	if outcome.Respond != nil {
		return types.Ok[host.Outcome, string](host.MakeOutcomeRespond(edits.Response(*outcome.Respond)))
	}
	return types.Ok[host.Outcome, string](host.MakeOutcomeEdits(edits.Of(outcome.Edits)))
}
