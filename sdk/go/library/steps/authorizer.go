// Package export_tidegate_gateway_authorizer is what the generated exports call.
package export_tidegate_gateway_authorizer

import (
	"tidegate"
	host "tidegate/bindings/tidegate_gateway_authorizer"

	types "go.bytecodealliance.org/pkg/wit/types"
)

// Authorize asks the plugin.
func Authorize(given []types.Option[string]) types.Result[host.Verdict, string] {
	tidegate.Handed = tidegate.RecordOf(given)
	plugin, is := tidegate.Current.(tidegate.Authorizer)
	if !is {
		return types.Err[host.Verdict, string]("the plugin has no method Authorize() (tidegate.Verdict, error)")
	}
	verdict, err := plugin.Authorize()
	if err != nil {
		return types.Err[host.Verdict, string](err.Error())
	}
	switch verdict.Kind {
	case tidegate.VerdictAllow:
		return types.Ok[host.Verdict, string](host.MakeVerdictAllow(principalOf(verdict)))
	case tidegate.VerdictUnauthorized:
		return types.Ok[host.Verdict, string](host.MakeVerdictUnauthorized(optional(verdict.Text)))
	case tidegate.VerdictForbidden:
		return types.Ok[host.Verdict, string](host.MakeVerdictForbidden(optional(verdict.Text)))
	default:
		return types.Err[host.Verdict, string]("Authorize() decided nothing: return what Allow, Unauthorized or Forbidden makes")
	}
}

func principalOf(verdict tidegate.Verdict) host.Principal {
	principal := host.Principal{Id: verdict.Text, UsageIdentifierKey: optional(verdict.UsageIdentifierKey)}
	for key, value := range verdict.Context {
		principal.Context = append(principal.Context, types.Tuple2[string, string]{F0: key, F1: value})
	}
	return principal
}

func optional(text string) types.Option[string] {
	if text == "" {
		return types.None[string]()
	}
	return types.Some(text)
}
