package flags

import (
	"strings"

	"github.com/spf13/cobra"
)

// Extensions of files that flags name, for a shell to offer.
var (
	certificates = []string{"crt", "pem", "cer"}
	privateKeys  = []string{"key", "pem"}
)

// OfferNothing has a shell offer nothing for flags and arguments unless their command
// says what to offer. By default it would offer the files of the folder, even for an SAE
// ID.
func OfferNothing(root *cobra.Command) {
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
}

// OfferValues has a shell offer the values of a flag. A value may have a description
// ([cobra.CompletionWithDesc]). If the flag is a list, they are offered for each element.
func OfferValues(cmd *cobra.Command, flag string, values ...cobra.Completion) {
	offer(cmd, flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}

// OfferForms has a shell offer the beginnings of a flag's values.
func OfferForms(cmd *cobra.Command, flag string, forms ...cobra.Completion) {
	offer(cmd, flag, cobra.FixedCompletions(forms, cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveNoSpace))
}

// OfferFiles has a shell offer any file for a flag, or a form that the user has begun to
// type.
func OfferFiles(cmd *cobra.Command, flag string, forms ...string) {
	offer(cmd, flag, func(_ *cobra.Command, _ []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		for _, form := range forms {
			if begun != "" && strings.HasPrefix(form, begun) {
				return []cobra.Completion{form}, cobra.ShellCompDirectiveNoSpace
			}
		}
		return nil, cobra.ShellCompDirectiveDefault
	})
}

// OfferConfig has a shell offer TOML files for --config.
func OfferConfig(cmd *cobra.Command) { offerExtensions(cmd, "config", "toml") }

// OfferCertificate has a shell offer files that may be a certificate and its private key.
func OfferCertificate(cmd *cobra.Command, certificate, key string) {
	offerExtensions(cmd, certificate, certificates...)
	offerExtensions(cmd, key, privateKeys...)
}

// OfferCA has a shell offer files that may be the certificate of a CA.
func OfferCA(cmd *cobra.Command, flag string) { offerExtensions(cmd, flag, certificates...) }

// OfferFolders has a shell offer folders for a flag.
func OfferFolders(cmd *cobra.Command, flag string) { offer(cmd, flag, FolderArgs) }

// FileArgs has a shell offer files as arguments.
func FileArgs(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveDefault
}

// FolderArgs has a shell offer folders as arguments.
func FolderArgs(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveFilterDirs
}

func offerExtensions(cmd *cobra.Command, flag string, extensions ...string) {
	offer(cmd, flag, cobra.FixedCompletions(extensions, cobra.ShellCompDirectiveFilterFileExt))
}

// offer registers a completion. A flag that does not exist is a mistake in the program.
func offer(cmd *cobra.Command, flag string, f cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(flag, f); err != nil {
		panic(err)
	}
}
